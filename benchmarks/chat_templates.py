"""Which tokens `train_on: all_answers` trains under real chat templates.

Takes a folder of templates (*.jinja), fetched by whoever runs it. Each is given conversations of
several turns, with a system message, tools and reasoning; the trained tokens are compared with a
reference that renders turn by turn: what a template adds, after the prompt of a turn, up to the
token that ends it. Where a finished answer doesn't continue its prompt, as with a prompt that
begins a thought, or lacks its thought, what is trained must be that prompt and then thought, answer
and end, each once (`completed`).

    python benchmarks/chat_templates.py FOLDER [--json]
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from tokenizers import AddedToken
from tokenizers import Tokenizer as Made

from mlxft.compute.tokenization import Tokenizer, load_tokenizer, tokenize
from mlxft.data import call_forms
from mlxft.errors import DataError
from mlxft.recipe import Recipe

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from support.models import make_tiny_model

SPECIAL = re.compile(
    r"<[|｜][^<>\n\s]{1,40}[|｜]>|</?s>|<(?:end|start)_of_turn>|<eo[sat]>|<bos>"
    r"|</?(?:\w+:)?think>|<\|\w+>|<\w+\|>"
)
"""Special tokens as templates write them."""

ENDS = (
    *("<|im_end|>", "<|eot_id|>", "<|eom_id|>", "</s>", "<end_of_turn>", "<|end|>", "<|return|>"),
    *("<|call|>", "<|END_OF_TURN_TOKEN|>", "<｜end▁of▁sentence｜>", "<|end_of_text|>", "<|eot|>"),
    *("<|eom|>", "<|message_sep|>", "<|end_of_msg|>", "<|role_end|>", "<|calls|>"),
    *("<|tools_suffix|>", "<|assistant_end|>"),
    *("<|endoftext|>", "<|user|>", "<|observation|>", "<|end_of_turn|>", "<turn|>", "<eos>"),
    "<|tool_response>",
)

THOUGHT_TAG = re.compile(r"(?:think(?:\|?>|:\w+>)|THINKING\|>|channel\|>|thought)\s*$")
"""How a prompt begins or ends a thought."""

THOUGHT_END = re.compile(r"/\w*:?think|END_THINKING|channel\|>|close\|>think")
PART = re.compile(r"""['"]type['"]: *['"]text['"]""")
"""A part of a content as a template for texts writes it."""

CLOSED = ("</think>", "<|END_THINKING|>", "<channel|>", "</think:opensource>", "</mm:think>")

CALL = {"type": "function", "function": {"name": "dim", "arguments": {"lamp": 3}}}
TOOL = {
    "type": "function",
    "function": {
        "name": "dim",
        "description": "Dims a lamp.",
        "parameters": {
            "type": "object",
            "properties": {"lamp": {"type": "integer", "description": "Its number."}},
            "required": ["lamp"],
        },
    },
}
TURNS = [
    {"role": "user", "content": "Is it on?"},
    {"role": "assistant", "content": "The lamp is on."},
    {"role": "user", "content": "And the heating?"},
    {"role": "assistant", "content": "The heating is off."},
    {"role": "user", "content": "Thanks."},
    {"role": "assistant", "content": "Good night."},
]
THINKING = [
    {**each, "reasoning_content": f"I look at turn {at}."} if each["role"] == "assistant" else each
    for at, each in enumerate(TURNS)
]
KINDS: dict[str, dict[str, Any]] = {
    "turns": {"messages": TURNS},
    "system": {"messages": [{"role": "system", "content": "Be brief."}, *TURNS]},
    "tools": {
        "tools": [TOOL],
        "messages": [
            {"role": "user", "content": "Dim lamp 3."},
            {"role": "assistant", "content": "", "tool_calls": [CALL]},
            {"role": "tool", "content": "done"},
            *TURNS[1:],
        ],
    },
    "reasoning": {"messages": THINKING},
}


def main() -> None:
    """Compare every template and print the counts."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    found = {path.stem: _compared(path) for path in sorted(arguments.folder.glob("*.jinja"))}
    kinds = {kind: dict(Counter(each[kind][0] for each in found.values())) for kind in KINDS}
    if arguments.json:
        print(json.dumps({"templates": len(found), "kinds": kinds, "each": found}))
        return
    for name, each in found.items():
        print(name, *(f"{kind}: {' '.join(result)};" for kind, result in each.items()))
    print(len(found), "templates", kinds)


def _compared(path: Path) -> dict[str, tuple[str, ...]]:
    with TemporaryDirectory() as folder:
        tokenizer = _tokenizer(Path(folder), path.read_text(encoding="utf-8"))
        return {kind: _outcome(tokenizer, fields) for kind, fields in KINDS.items()}


def _tokenizer(folder: Path, template: str) -> Tokenizer:
    """The template on a tiny tokenizer that has its special tokens."""
    make_tiny_model(folder, chat_template=template)
    special = sorted({*SPECIAL.findall(template), "</s>", "<|endoftext|>"})
    file = folder / "tokenizer.json"
    made = Made.from_file(str(file))
    made.add_special_tokens([AddedToken(each, special=True) for each in special])
    made.save(str(file))
    ends = [made.token_to_id(each) for each in ENDS if each in special]
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "eos_token_id": ends}))
    named = json.loads((folder / "tokenizer_config.json").read_text())
    beginning = next((each for each in ("<s>", "<bos>") if each in special), special[0])
    end = next(each for each in ENDS if each in special)
    named |= {"bos_token": beginning, "eos_token": end}
    (folder / "tokenizer_config.json").write_text(json.dumps(named))
    return load_tokenizer(folder, trust_remote_code=False)


def _outcome(tokenizer: Tokenizer, fields: dict[str, Any]) -> tuple[str, ...]:
    """`equal` or `completed` with the number of records, `refused`, or `differs` and where."""
    try:
        records = tokenize(tokenizer, fields, Recipe(train_on="all_answers"))
    except DataError:
        return ("refused",)
    ours = {
        (tuple(each.tokens[: span.start]), tuple(each.tokens[span.start : span.stop]))
        for each in records
        for span in each.spans
    }
    found = list(_reference(tokenizer, fields))
    theirs = {each for each in found if not isinstance(each, Completed)}
    completed = [each for each in found if isinstance(each, Completed)]
    fitting = {span for each in completed for span in ours if each.suits(tokenizer, *span)}
    if ours == theirs | fitting and len(fitting) == len(completed):
        return ("completed" if completed else "equal", str(len(records)))
    theirs |= {(each.prompt, ()) for each in completed}
    extra = [tokenizer.decode(list(each[1])) for each in ours - theirs]
    missing = [tokenizer.decode(list(each[1])) for each in theirs - ours]
    return ("differs", f"ours {extra} reference {missing}")


Tokens = tuple[int, ...]


@dataclass(frozen=True)
class Completed:
    """A turn that doesn't continue its prompt in a finished conversation."""

    prompt: Tokens
    thought: str
    content: str

    def suits(self, tokenizer: Tokenizer, before: Tokens, trained: Tokens) -> bool:
        """Whether the model is trained to write thought, answer and end after the prompt."""
        text = tokenizer.decode(list(trained))
        parts = [each for each in (self.thought, self.content) if each]
        return (
            before == self.prompt
            and all(text.count(each) == 1 for each in parts)
            and sorted(parts, key=text.index) == parts
            and trained[-1] in tokenizer.eos_token_ids
        )


def _reference(
    tokenizer: Tokenizer, fields: dict[str, Any]
) -> Iterator[tuple[Tokens, Tokens] | Completed]:
    """What the model sees at each turn, and what it has to write there."""
    messages, tools = fields["messages"], fields.get("tools")
    for at, message in enumerate(messages):
        if message["role"] != "assistant":
            continue
        text, prompt = _written(tokenizer, messages[: at + 1], tools)
        tokens, asked = (tokenizer.encode(e, add_special_tokens=False) for e in (text, prompt))
        thought = message.get("reasoning_content", "")
        rest = text.removeprefix(prompt)
        if THOUGHT_TAG.search(prompt) and (rest == text or not THOUGHT_END.search(prompt + rest)):
            off = prompt.rstrip().endswith(CLOSED)
            yield Completed(tuple(asked), "" if off else thought, message["content"])
            continue
        if tokenizer.has_thinking and thought and text.count(thought) != 1:
            yield Completed(tuple(asked), thought, message["content"])
            continue
        start = next(
            (i for i, pair in enumerate(zip(tokens, asked, strict=False)) if pair[0] != pair[1]),
            min(len(tokens), len(asked)),
        )
        while tokens and not tokenizer.decode([tokens[-1]]).strip():
            tokens.pop()
        if tokens[-1] not in tokenizer.eos_token_ids:
            # Where the template ends no answer, the next message's first token does.
            tokens = tokenizer.encode(text, add_special_tokens=False)
            tokens.append(_next_token(tokenizer, messages, at, tools, tokens))
        yield tuple(tokens[:start]), tuple(tokens[start:])


def _written(tokenizer: Tokenizer, messages: list[Any], tools: Any) -> tuple[str, str]:
    """A conversation and its prompt, in the form of which the template keeps most."""
    ids, tags = call_forms.with_ids(messages), _tags(tokenizer)
    forms = [
        messages,
        *(f(each) for each in (messages, ids) for f in (list, call_forms.with_text_arguments)),
        call_forms.with_naming_ids(messages),
        call_forms.with_reasoning_keys(messages),
        call_forms.with_thinking_parts(messages),
        *([call_forms.with_think_tags(messages, tags)] if tags else []),
        call_forms.with_parts(messages),
    ]
    words = [messages[-1].get("reasoning_content", ""), messages[-1]["content"]]
    words += [each["content"] for each in messages]
    words += ["dim", "lamp"] if messages[-1].get("tool_calls") else []
    best, most = ("", ""), -1
    for form in forms:
        for given in [tools] if tools else [None, []]:
            try:
                text, prompt = (
                    str(
                        tokenizer.apply_chat_template(
                            form[:stop], tools=given, add_generation_prompt=asks, tokenize=False
                        )
                    )
                    for stop, asks in ((len(form), False), (len(form) - 1, True))
                )
            except Exception:  # a chat template may raise anything
                continue
            kept = sum(each in text for each in words) - bool(PART.search(text)) * len(words)
            if kept > most:
                best, most = (text, prompt), kept
    return best


def _tags(tokenizer: Tokenizer) -> tuple[str, str] | None:
    return (tokenizer.think_start, tokenizer.think_end) if tokenizer.has_thinking else None


def _next_token(
    tokenizer: Tokenizer, messages: list[Any], at: int, tools: Any, tokens: list[int]
) -> int:
    following = messages[at + 1 : at + 2]
    if following:
        longer, _ = _written(tokenizer, messages[: at + 2], tools)
        found = tokenizer.encode(longer, add_special_tokens=False)
        after = found[len(tokens) : len(tokens) + 1] if found[: len(tokens)] == tokens else []
        if after and after[0] in tokenizer.eos_token_ids:
            return int(after[0])
    return int(tokenizer.eos_token_id)


if __name__ == "__main__":
    main()
