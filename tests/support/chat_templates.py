"""Chat templates that behave as those of well-known model families do, on a tiny tokenizer.

Each writes the same special tokens in the same places as its family, from a template of our own.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from tokenizers import AddedToken, Tokenizer

from support.models import make_tiny_model


@dataclass(frozen=True)
class Family:
    """A family's template, its special tokens, and how the template departs from the plain way."""

    name: str
    template: str
    special: tuple[str, ...]
    end: str
    takes_system: bool = True
    ends_answers: bool = True
    prompt_is_prefix: bool = True


def _turns(open_turn: str, close_turn: str, start: str = "", prompt: str = "") -> str:
    """A template of turns that all look alike; `open_turn` may use the message's role."""
    return (
        start + "{% for message in messages %}" + open_turn + "{{ message['content'] }}"
        f"{close_turn}"
        "{% endfor %}{% if add_generation_prompt %}" + prompt + "{% endif %}"
    )


_ALTERNATION = (
    "{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('Roles must alternate user/assistant') }}{% endif %}"
)

_CHATML = _turns(
    "<|im_start|>{{ message['role'] }}\n", "<|im_end|>\n", prompt="<|im_start|>assistant\n"
)

_GEMMA = (
    "<bos>{% if messages[0]['role'] == 'system' %}"
    "{{ raise_exception('System role not supported') }}{% endif %}"
    "{% for message in messages %}" + _ALTERNATION + "<start_of_turn>"
    "{{ 'model' if message['role'] == 'assistant' else message['role'] }}\n"
    "{{ message['content'] | trim }}<end_of_turn>\n{% endfor %}"
    "{% if add_generation_prompt %}<start_of_turn>model\n{% endif %}"
)

_MISTRAL = (
    "<s>{% if messages[0]['role'] == 'system' %}{% set system = messages[0]['content'] + '\n\n' %}"
    "{% set messages = messages[1:] %}{% else %}{% set system = '' %}{% endif %}"
    "{% for message in messages %}"
    + _ALTERNATION
    + "{% if message['role'] == 'user' %}[INST] {{ system if loop.first else '' }}"
    "{{ message['content'] }}[/INST]{% else %} {{ message['content'] }}</s>{% endif %}"
    "{% endfor %}"
)

_QWEN3 = (
    "{% set ns = namespace(question=0) %}{% for message in messages %}"
    "{% if message['role'] == 'user' %}{% set ns.question = loop.index0 %}{% endif %}{% endfor %}"
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n"
    "{% if message['role'] == 'assistant' %}"
    "{% set thought, _, said = message['content'].rpartition('</think>') %}"
    "{% if loop.index0 > ns.question %}"
    "<think>\n{{ thought.split('<think>')[-1] | trim }}\n</think>\n\n{{ said.lstrip('\n') }}"
    "{% else %}{{ said.lstrip('\n') }}{% endif %}"
    "{% else %}{{ message['content'] }}{% endif %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n"
    "{% if enable_thinking is defined and not enable_thinking %}<think>\n\n</think>\n\n{% endif %}"
    "{% endif %}"
)

_COMMAND_R = (
    "<BOS_TOKEN>{% for message in messages %}<|START_OF_TURN_TOKEN|>"
    "{% if message['role'] == 'assistant' %}<|CHATBOT_TOKEN|>"
    "{% else %}<|{{ message['role'] | upper }}_TOKEN|>{% endif %}"
    "{{ message['content'] | trim }}<|END_OF_TURN_TOKEN|>{% endfor %}"
    "{% if add_generation_prompt %}<|START_OF_TURN_TOKEN|><|CHATBOT_TOKEN|>{% endif %}"
)

_DEEPSEEK = (
    "<｜begin▁of▁sentence｜>{% for message in messages %}"
    "{% if message['role'] == 'system' %}{{ message['content'] }}"
    "{% elif message['role'] == 'user' %}<｜User｜>{{ message['content'] }}"
    "{% else %}<｜Assistant｜>{{ message['content'] }}<｜end▁of▁sentence｜>{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<｜Assistant｜>{% endif %}"
)

FAMILIES = (
    Family("ChatML", _CHATML, ("<|im_start|>", "<|im_end|>"), "<|im_end|>"),
    Family(
        "Llama 3",
        _turns(
            "<|start_header_id|>{{ message['role'] }}<|end_header_id|>\n\n",
            "<|eot_id|>",
            "<|begin_of_text|>",
            "<|start_header_id|>assistant<|end_header_id|>\n\n",
        ),
        ("<|begin_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"),
        "<|eot_id|>",
    ),
    Family(
        "Gemma",
        _GEMMA,
        ("<bos>", "<start_of_turn>", "<end_of_turn>"),
        "<end_of_turn>",
        takes_system=False,
    ),
    Family("Mistral", _MISTRAL, ("<s>", "</s>", "[INST]", "[/INST]"), "</s>"),
    Family(
        "Phi-3",
        _turns("<|{{ message['role'] }}|>\n", "<|end|>\n", prompt="<|assistant|>\n"),
        ("<|system|>", "<|user|>", "<|assistant|>", "<|end|>"),
        "<|end|>",
    ),
    Family(
        "Phi-4",
        _turns(
            "<|im_start|>{{ message['role'] }}<|im_sep|>",
            "<|im_end|>",
            prompt="<|im_start|>assistant<|im_sep|>",
        ),
        ("<|im_start|>", "<|im_sep|>", "<|im_end|>"),
        "<|im_end|>",
    ),
    Family(
        "Qwen3",
        _QWEN3,
        ("<|im_start|>", "<|im_end|>", "<think>", "</think>"),
        "<|im_end|>",
    ),
    Family(
        "Command-R",
        _COMMAND_R,
        (
            "<BOS_TOKEN>",
            "<|START_OF_TURN_TOKEN|>",
            "<|END_OF_TURN_TOKEN|>",
            "<|SYSTEM_TOKEN|>",
            "<|USER_TOKEN|>",
            "<|CHATBOT_TOKEN|>",
        ),
        "<|END_OF_TURN_TOKEN|>",
    ),
    Family(
        "Granite",
        _turns(
            "<|start_of_role|>{{ message['role'] }}<|end_of_role|>",
            "<|end_of_text|>\n",
            prompt="<|start_of_role|>assistant<|end_of_role|>",
        ),
        ("<|start_of_role|>", "<|end_of_role|>", "<|end_of_text|>"),
        "<|end_of_text|>",
    ),
    Family(
        "Zephyr",
        _turns("<|{{ message['role'] }}|>\n", "</s>\n", prompt="<|assistant|>\n"),
        ("<s>", "</s>"),
        "</s>",
    ),
    Family(
        "DeepSeek",
        _DEEPSEEK,
        ("<｜begin▁of▁sentence｜>", "<｜User｜>", "<｜Assistant｜>", "<｜end▁of▁sentence｜>"),
        "<｜end▁of▁sentence｜>",
    ),
    Family(
        "DeepSeek-R1, whose prompt opens a thought",
        _DEEPSEEK.replace("<｜Assistant｜>{% endif %}", "<｜Assistant｜><think>\n{% endif %}"),
        (
            "<｜begin▁of▁sentence｜>",
            "<｜User｜>",
            "<｜Assistant｜>",
            "<｜end▁of▁sentence｜>",
            "<think>",
            "</think>",
        ),
        "<｜end▁of▁sentence｜>",
    ),
    Family(
        "Apriel, whose prompt says that reasons follow",
        _turns("<|{{ message['role'] }}|>\n", "<|end|>\n", prompt="<|assistant|>\nI reason:\n"),
        ("<|system|>", "<|user|>", "<|assistant|>", "<|end|>"),
        "<|end|>",
        prompt_is_prefix=False,
    ),
    Family(
        "Vicuna without its end",
        _turns(
            "{{ {'user': 'USER: ', 'assistant': 'ASSISTANT:', 'system': ''}[message['role']] }}",
            "\n",
            prompt="ASSISTANT:",
        ),
        ("<s>", "</s>"),
        "</s>",
        ends_answers=False,
    ),
)


def make_family(folder: Path, family: Family) -> Path:
    """A tiny model folder with the family's template and special tokens."""
    make_tiny_model(folder, chat_template=family.template)
    file = folder / "tokenizer.json"
    tokenizer = Tokenizer.from_file(str(file))
    tokenizer.add_special_tokens([AddedToken(each, special=True) for each in family.special])
    tokenizer.save(str(file))
    settings = json.loads((folder / "tokenizer_config.json").read_text())
    settings |= {"eos_token": family.end, "pad_token": family.end, "bos_token": family.special[0]}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    config = json.loads((folder / "config.json").read_text())
    config["eos_token_id"] = tokenizer.token_to_id(family.end)
    (folder / "config.json").write_text(json.dumps(config))
    return folder
