"""The thoughts of answers under templates that treat them as well-known families do.

The templates are our own; each keeps, drops, opens or ends thoughts where its family does.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
from tokenizers import AddedToken
from tokenizers import Tokenizer as Made

from mlxft import recipe as recipes
from mlxft.compute.tokenization import (
    TokenizedRecord,
    Tokenizer,
    load_tokenizer,
    tokenize,
    with_template,
)
from mlxft.data.conversion import converted
from mlxft.data.spans import Span
from mlxft.recipe import ChatTemplate, Recipe
from support.models import make_tiny_model

EARLIER = "{% set ns = namespace(asked=0) %}{% for m in messages %}{% if m.role == 'user' %}"
EARLIER += "{% set ns.asked = loop.index0 %}{% endif %}{% endfor %}"
USER = "{% for m in messages %}{% if m.role == 'user' %}[U]{{ m.content }}{% else %}"
END = "{% endif %}{% endfor %}{% if add_generation_prompt %}"

QWEN3 = (
    EARLIER
    + USER
    + "[A]\n{% set said = m.content.split('</think>')[-1].lstrip() %}"
    + "{% set thought = m.reasoning_content or m.content.split('</think>')[0] %}"
    + "{% if loop.index0 > ns.asked %}<think>\n"
    + "{{ thought.split('<think>')[-1].strip() if thought != said else '' }}\n</think>\n\n"
    + "{% endif %}{{ said }}<|im_end|>"
    + END
    + "[A]\n{% if enable_thinking is false %}<think>\n\n</think>\n\n{% endif %}{% endif %}"
)
DEEPSEEK_R1 = (
    USER + "[A]{{ m.content.split('</think>')[-1] }}<|im_end|>" + END + "[A]<think>\n{% endif %}"
)
GLM = (
    EARLIER
    + USER
    + "[A]{% if loop.index0 > ns.asked and m.reasoning_content %}<think>{{ m.reasoning_content }}"
    + "</think>{% else %}</think>{% endif %}{{ m.content }}<|im_end|>"
    + END
    + "[A]{{ '</think>' if enable_thinking is false else '<think>' }}{% endif %}"
)
SMOLLM3 = (
    USER
    + "[A]\n{% if enable_thinking is false %}<think>\n\n</think>\n{% endif %}{{ m.content }}"
    + "<|im_end|>"
    + END
    + "[A]\n{% if enable_thinking is false %}<think>\n\n</think>\n{% endif %}{% endif %}"
)
GPT_OSS = (
    USER
    + "{% if loop.last and m.thinking %}[A]<|channel|>analysis<|message|>{{ m.thinking }}<|end|>"
    + "{% endif %}[A]<|channel|>final<|message|>{{ m.content }}"
    + "{{ '<|im_end|>' if loop.last and not add_generation_prompt else '<|end|>' }}"
    + END
    + "[A]{% endif %}"
)
MISTRAL = (
    USER
    + "{% if m.content is string %}{{ m.content }}{% else %}{% for part in m.content %}"
    + "{{ '[THINK]' + part.thinking + '[/THINK]' if part.type == 'thinking' else part.text }}"
    + "{% endfor %}{% endif %}<|im_end|>"
    + END
    + "{% endif %}"
)

SPECIAL = ("[U]", "[A]", "<think>", "</think>", "<|channel|>", "<|message|>", "<|end|>")

QUESTIONS = (("On?", "Which?", "It is on."), ("Off?", "The lamp.", "It is off."))
"""What is asked, thought and answered."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny model with the tokens of thoughts."""
    made = make_tiny_model(tmp_path_factory.mktemp("thinking"))
    file = made / "tokenizer.json"
    tokenizer = Made.from_file(str(file))
    tokenizer.add_special_tokens([AddedToken(each, special=True) for each in SPECIAL])
    tokenizer.save(str(file))
    return made


@pytest.fixture(scope="module")
def base(folder: Path) -> Tokenizer:
    return load_tokenizer(folder, False)


def tokenizer_of(base: Tokenizer, folder: Path, template: str, **arguments: Any) -> Tokenizer:
    file = folder / f"{abs(hash(template))}.jinja"
    file.write_text(template)
    return with_template(base, ChatTemplate(template=str(file), arguments=arguments))


def conversation(key: str, turns: int = 1) -> dict[str, Any]:
    """Thoughts under a key of their own, or within the content if the key is `content`."""
    messages: list[dict[str, Any]] = []
    for question, thought, answer in QUESTIONS[:turns]:
        inline = f"<think>\n{thought}\n</think>\n\n{answer}"
        said = {"content": inline} if key == "content" else {"content": answer, key: thought}
        messages += [{"role": "user", "content": question}, {"role": "assistant", **said}]
    return dict(converted({"messages": messages}).fields)


def plain() -> dict[str, Any]:
    (question, _, answer), *_ = QUESTIONS
    return {"prompt": question, "completion": answer}


def trained(tokenizer: Tokenizer, fields: dict[str, Any], *settings: str) -> list[str]:
    """The text of each record with what is trained between ⟦ and ⟧."""
    recipe = recipes.apply_settings(Recipe(train_on="last_answer"), settings)
    return [_marked(tokenizer, each) for each in tokenize(tokenizer, fields, recipe)]


def _marked(tokenizer: Tokenizer, record: TokenizedRecord) -> str:
    pieces, at = [], 0
    for start, stop, _ in (*record.spans, Span(len(record.tokens), len(record.tokens))):
        pieces.append(tokenizer.decode(list(record.tokens[at:start])))
        if stop > start:
            pieces.append(f"⟦{tokenizer.decode(list(record.tokens[start:stop]))}⟧")
        at = stop
    return "".join(pieces)


FAMILIES = {
    "Qwen3": (
        QWEN3,
        {
            "train": "[U]On?[A]\n⟦<think>\nWhich?\n</think>\n\nIt is on.<|im_end|>⟧",
            "mask": "[U]On?[A]\n<think>\nWhich?\n</think>\n\n⟦It is on.<|im_end|>⟧",
            "drop": "[U]On?[A]\n⟦<think>\n\n</think>\n\nIt is on.<|im_end|>⟧",
        },
    ),
    "DeepSeek-R1": (
        DEEPSEEK_R1,
        {
            "train": "[U]On?[A]<think>\n⟦Which?\n</think>\n\nIt is on.<|im_end|>⟧",
            "mask": "[U]On?[A]<think>\nWhich?\n</think>\n\n⟦It is on.<|im_end|>⟧",
            "drop": "[U]On?[A]<think>\n⟦\n</think>\n\nIt is on.<|im_end|>⟧",
        },
    ),
    "GLM": (
        GLM,
        {
            "train": "[U]On?[A]<think>⟦Which?</think>It is on.<|im_end|>⟧",
            "mask": "[U]On?[A]<think>Which?</think>⟦It is on.<|im_end|>⟧",
            "drop": "[U]On?[A]<think>⟦</think>It is on.<|im_end|>⟧",
        },
    ),
    "SmolLM3": (
        SMOLLM3,
        {
            "train": "[U]On?[A]\n⟦<think>\nWhich?\n</think>\n\nIt is on.<|im_end|>⟧",
            "mask": "[U]On?[A]\n<think>\nWhich?\n</think>\n\n⟦It is on.<|im_end|>⟧",
            "drop": "[U]On?[A]\n⟦It is on.<|im_end|>⟧",
        },
    ),
    "gpt-oss": (
        GPT_OSS,
        {
            "train": "[U]On?[A]⟦<|channel|>analysis<|message|>Which?<|end|>[A]<|channel|>final"
            "<|message|>It is on.<|im_end|>⟧",
            "mask": "[U]On?[A]<|channel|>analysis<|message|>Which?<|end|>⟦[A]<|channel|>final"
            "<|message|>It is on.<|im_end|>⟧",
            "drop": "[U]On?[A]⟦<|channel|>final<|message|>It is on.<|im_end|>⟧",
        },
    ),
    "Mistral": (
        MISTRAL,
        {
            "train": "[U]On?⟦[THINK]Which?[/THINK]It is on.<|im_end|>⟧",
            "mask": "[U]On?[THINK]Which?[/THINK]⟦It is on.<|im_end|>⟧",
            "drop": "[U]On?⟦It is on.<|im_end|>⟧",
        },
    ),
}
EACH = pytest.mark.parametrize("family", FAMILIES)


class TestThoughts:
    @EACH
    @pytest.mark.parametrize("key", ["reasoning_content", "thinking", "reasoning", "content"])
    @pytest.mark.parametrize("choice", ["train", "mask", "drop"])
    def test_they_are_trained_masked_or_dropped(
        self, base: Tokenizer, folder: Path, family: str, key: str, choice: str
    ) -> None:
        template, expected = FAMILIES[family]
        tokenizer = tokenizer_of(base, folder, template)
        setting = f"reasoning={choice}"
        assert trained(tokenizer, conversation(key), setting) == [expected[choice]]
        assert trained(tokenizer, conversation(key), setting, "train_on=all_answers") == [
            expected[choice]
        ]

    @EACH
    def test_an_answer_without_any_is_written_after_its_prompt(
        self, base: Tokenizer, folder: Path, family: str
    ) -> None:
        template, expected = FAMILIES[family]
        tokenizer = tokenizer_of(base, folder, template)
        (record,) = tokenize(tokenizer, plain(), Recipe(train_on="last_answer"))
        assert record.prompt_is_prefix
        assert record.thoughtless is ("</think>" in expected["drop"])
        assert [_marked(tokenizer, record)] == [expected["drop"]]

    @pytest.mark.parametrize(
        ("family", "prompt"),
        [
            ("Qwen3", "[A]\n<think>\n\n</think>\n\n"),
            ("GLM", "[A]</think>"),
            ("SmolLM3", "[A]\n<think>\n\n</think>\n"),
        ],
    )
    def test_they_are_dropped_where_the_prompt_turns_thinking_off(
        self, base: Tokenizer, folder: Path, family: str, prompt: str
    ) -> None:
        tokenizer = tokenizer_of(base, folder, FAMILIES[family][0], enable_thinking=False)
        (record,) = tokenize(
            tokenizer, conversation("reasoning_content"), Recipe(train_on="last_answer")
        )
        assert record.losses == {"reasoning"}
        assert _marked(tokenizer, record) == f"[U]On?{prompt}⟦It is on.<|im_end|>⟧"

    @EACH
    def test_each_answer_is_trained_after_what_the_model_has_read(
        self, base: Tokenizer, folder: Path, family: str
    ) -> None:
        tokenizer = tokenizer_of(base, folder, FAMILIES[family][0])
        fields = conversation("reasoning_content", turns=2)
        records = tokenize(tokenizer, fields, Recipe(train_on="all_answers"))
        found = [
            (each.tokens[: span.start], each.tokens[span.start : span.stop])
            for each in records
            for span in each.spans
        ]
        alone = [
            tokenize(tokenizer, {"messages": fields["messages"][:stop]}, LAST)[0] for stop in (2, 4)
        ]
        assert found == [
            (each.tokens[: each.spans[0].start], each.tokens[each.spans[0].start :])
            for each in alone
        ]
        assert not any(each.losses for each in (*records, *alone))

    @EACH
    @pytest.mark.parametrize("key", ["reasoning_content", "content"])
    def test_a_conversation_has_the_same_tokens_whatever_is_trained(
        self, base: Tokenizer, folder: Path, family: str, key: str
    ) -> None:
        """Since orpo trains a conversation both as text and by its last answer."""
        tokenizer = tokenizer_of(base, folder, FAMILIES[family][0])
        whole = tokenize(tokenizer, conversation(key, 2), Recipe())
        last = tokenize(tokenizer, conversation(key, 2), LAST)
        each = tokenize(tokenizer, conversation(key, 2), Recipe(train_on="all_answers"))
        assert whole[-1].tokens == last[-1].tokens == each[-1].tokens
        is_lost = "Which?" not in (whole[0].text or "")
        assert whole[0].losses == ({"reasoning"} if is_lost else set())

    def test_a_token_that_spans_the_end_of_the_prompt_is_not_used(
        self, folder: Path, tmp_path: Path
    ) -> None:
        """A model never sees it: its answer is generated after the prompt's own tokens."""
        shutil.copytree(folder, tmp_path / "model")
        file = tmp_path / "model" / "tokenizer.json"
        made = Made.from_file(str(file))
        made.add_tokens([AddedToken("\n\n", normalized=False)])
        made.save(str(file))
        base = load_tokenizer(tmp_path / "model", False)
        tokenizer = tokenizer_of(base, tmp_path, DEEPSEEK_R1)
        (record,) = tokenize(tokenizer, plain(), Recipe(train_on="last_answer"))
        prompt = tokenizer.encode("[U]On?[A]<think>\n", add_special_tokens=False)
        assert list(record.tokens[: record.spans[0].start]) == prompt
        assert record.text == "[U]On?[A]<think>\n\n</think>\n\nIt is on.<|im_end|>"
        (masked,) = tokenize(tokenizer, plain(), Recipe(train_on="last_answer", reasoning="mask"))
        assert tokenizer.decode(list(masked.tokens[masked.spans[0].start :])) == (
            "It is on.<|im_end|>"
        )

    def test_masked_ones_of_earlier_turns_are_masked_too(
        self, base: Tokenizer, folder: Path
    ) -> None:
        tokenizer = tokenizer_of(base, folder, SMOLLM3)
        (found,) = trained(
            tokenizer, conversation("content", 2), "reasoning=mask", "train_on=everything"
        )
        assert [part.partition("⟧")[0] for part in found.split("⟦")[1:]] == [
            "On?[A]\n",
            "It is on.<|im_end|>[U]Off?[A]\n",
            "It is off.<|im_end|>",
        ]

    def test_a_template_that_knows_none_keeps_what_the_content_holds(
        self, tiny_model: Path
    ) -> None:
        tokenizer = load_tokenizer(tiny_model, False)
        (found,) = trained(tokenizer, conversation("content"))
        assert "⟦<think>\nWhich?\n</think>\n\nIt is on.<|im_end|>" in found


LAST = Recipe(train_on="last_answer")
