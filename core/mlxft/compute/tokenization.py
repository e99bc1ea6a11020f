"""Tokenize records; the trainer and the token view share this code."""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import product
from pathlib import Path
from typing import Any, Final, TypeAlias

from mlx_lm.utils import load_config
from mlx_lm.utils import load_tokenizer as load_wrapped_tokenizer

from mlxft.data import call_forms, formats, truncation
from mlxft.data.formats import Fields
from mlxft.data.messages import is_untrained
from mlxft.data.record_checks import mask_problem, problems
from mlxft.data.rendering import LOSSES, Loss, losses
from mlxft.data.token_view import TokenPiece, TokenView
from mlxft.data.truncation import Piece
from mlxft.errors import DataError, ModelError
from mlxft.recipe import Overlong, Recipe

Tokenizer: TypeAlias = Any
"""mlx_lm's TokenizerWrapper."""


class TemplateError(DataError):
    """The model's chat template rejects a record."""

    def __init__(self, place: str, error: Exception, remedy: str) -> None:
        self.reason = first_line(error)
        super().__init__(
            f"{place}: the model's chat template rejects it ({self.reason}); {remedy}."
        )


@dataclass(frozen=True)
class TokenizedRecord:
    """A record's tokens before truncation, and the index of the first trained one.

    All tokens from there on are trained. The very first token is never a target, since nothing
    predicts it.
    """

    tokens: tuple[int, ...]
    first_trained: int
    prompt_is_prefix: bool = True
    """Whether the record begins with its rendered prompt; if not, training starts at the first
    difference."""
    end_added: bool = False
    """Whether the chat template wrote no end token, so that it was added."""

    closing: int = 1
    """How many of the last tokens are the end token and whitespace after it."""
    text: str | None = None
    """The conversation as rendered; None for plain text."""
    losses: frozenset[Loss] = frozenset()
    """What the chat template leaves out."""
    dated: bool = False
    """Whether the chat template writes the current date."""
    doubled: bool = False
    """Whether it begins with two beginning tokens or ends with two end tokens."""

    def pieces(self, max_seq_length: int, choice: Overlong) -> tuple[Piece, ...]:
        """The sequences of it that are trained."""
        length = len(self.tokens)
        return truncation.pieces(length, self.first_trained, max_seq_length, choice, self.closing)


def load_tokenizer(path: Path, trust_remote_code: bool, date: datetime | None = None) -> Tokenizer:
    """The tokenizer of a model folder, with all end tokens in its config.

    `date` is the one that chat templates write; None for the current one. Raises `ModelError`.
    """
    try:
        tokenizer = load_wrapped_tokenizer(
            path,
            {"trust_remote_code": trust_remote_code},
            eos_token_ids=load_config(path).get("eos_token_id"),
        )
    except Exception as error:  # transformers raises anything, depending on the files
        if _refuses_config(path, trust_remote_code, error):
            raise ModelError(
                f"{path / 'config.json'}: transformers rejects it ({first_line(error)}); "
                "fix it or choose another model."
            ) from error
        raise ModelError(
            f"{path}: the tokenizer can't be loaded ({first_line(error)}); "
            "download the model again or choose another."
        ) from error
    if date is not None and writes_date(tokenizer):
        _write_date(tokenizer, date)
    return tokenizer


def _refuses_config(path: Path, trust_remote_code: bool, error: Exception) -> bool:
    """Whether config.json caused the error: loaded alone, it causes the same one."""
    from transformers import AutoConfig

    try:
        AutoConfig.from_pretrained(path, trust_remote_code=trust_remote_code)
    except Exception as alone:
        return (type(alone), str(alone)) == (type(error), str(error))
    return False


def check_vocabulary(tokens: Iterable[int], vocabulary: int | None, place: str) -> None:
    """Raise `DataError` for a token that the model has no embedding for: a GPU reads garbage."""
    if vocabulary is not None and (highest := max(tokens, default=0)) >= vocabulary:
        raise DataError(
            f"{place}: the record has token {highest}, but the model's vocab_size is {vocabulary}; "
            "choose the model that the tokenizer belongs to, or remove what makes that token."
        )


def tokenize(
    tokenizer: Tokenizer, fields: Fields, mask_prompt: bool, place: str = "This record"
) -> TokenizedRecord:
    """Tokenize a record without faults, like mlx_lm's datasets.

    With `mask_prompt` only the last message is trained, otherwise everything after the last answer
    that is marked as not to be trained. Unlike mlx_lm, adds the model's end token if the chat
    template doesn't end the answer: without it a model never learns to stop. Raises `TemplateError`
    beginning with `place` if the chat template rejects the record.
    """
    messages = formats.conversation(fields)
    if messages is None:
        tokens = _text_tokens(tokenizer, fields["text"])
        return TokenizedRecord(tokens, 1, doubled=_is_doubled(tokenizer, tokens))
    messages = _up_to_last_trained(messages)
    masked = len(messages) - 1 if mask_prompt else _untrained_messages(messages)
    try:
        rendered = _rendered(tokenizer, messages, fields.get("tools") or None, masked)
    except Exception as error:  # a chat template may raise anything
        raise TemplateError(place, error, _remedy(tokenizer, messages)) from error
    tokens = _encode(tokenizer, rendered.text)
    prompt = _encode(tokenizer, rendered.prompt) if masked else ()
    first = _common_prefix(tokens, prompt)
    closing = _closing(tokenizer, tokens)
    whole = tokens if closing else (*tokens, tokenizer.eos_token_id)
    return TokenizedRecord(
        tokens=whole,
        first_trained=max(1, first),
        prompt_is_prefix=first == len(prompt),
        end_added=len(whole) > len(tokens),
        closing=closing or 1,
        text=rendered.text,
        losses=rendered.losses,
        dated=writes_date(tokenizer),
        doubled=_is_doubled(tokenizer, whole),
    )


def _is_doubled(tokenizer: Tokenizer, tokens: Sequence[int]) -> bool:
    """Whether tokens begin with two beginning tokens or end with the same end token twice."""
    begins = len(tokens) > 1 and tokens[0] == tokens[1] == tokenizer.bos_token_id
    last = [token for token in tokens[-4:] if tokenizer.decode([token]).strip()][-2:]
    ends = len(last) == 2 and last[0] == last[1] and last[0] in tokenizer.eos_token_ids
    return begins or ends


def _up_to_last_trained(messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The conversation without what follows its last trained answer."""
    trained = [at for at, each in enumerate(messages) if _is_trained_answer(each)]
    return messages[: trained[-1] + 1] if trained else messages


def _untrained_messages(messages: list[dict[str, Any]]) -> int:
    """How many messages to mask, so that no answer marked as not to be trained is."""
    untrained = [
        at for at, each in enumerate(messages) if each["role"] == "assistant" and is_untrained(each)
    ]
    if not untrained:
        return 0
    later = range(untrained[-1] + 1, len(messages))
    return next((at for at in later if messages[at]["role"] == "assistant"), 0)


def _is_trained_answer(message: dict[str, Any]) -> bool:
    return bool(message["role"] == "assistant") and not is_untrained(message)


@dataclass(frozen=True)
class _Rendered:
    """A conversation as text, and the prompt that it should begin with."""

    text: str
    prompt: str
    losses: frozenset[Loss]


def _rendered(
    tokenizer: Tokenizer, messages: list[dict[str, Any]], tools: Any, masked: int
) -> _Rendered:
    """The conversation rendered in the first form that the template takes, without losses if any.

    Raises whatever the template raises for the conversation as it is.
    """
    failure: Exception | None = None
    best: _Rendered | None = None
    # Some templates list tools without asking whether there are any.
    for given, form in product([tools] if tools else [None, []], _forms(tokenizer, messages)):
        if best is not None and given == []:
            break
        try:
            found = _rendered_form(tokenizer, form, messages, given, masked)
        except Exception as error:  # a chat template may raise anything
            failure = failure or error
            continue
        if best is None or len(found.losses) < len(best.losses):
            best = found
        if not best.losses:
            break
    if best is None:
        assert failure is not None
        raise failure
    return best


def _forms(tokenizer: Tokenizer, messages: list[dict[str, Any]]) -> Iterator[list[dict[str, Any]]]:
    """The conversation in the forms that templates differ in; most take the first."""
    yield messages
    if any(each.get("tool_calls") for each in messages):
        with_ids = call_forms.with_ids(messages)
        yield with_ids
        yield call_forms.with_text_arguments(messages)
        yield call_forms.with_text_arguments(with_ids)
        yield call_forms.with_naming_ids(messages)
    if any(each.get("reasoning_content") for each in messages):
        yield call_forms.with_reasoning_key(messages, "thinking")
        if tokenizer.has_thinking:
            tags = (tokenizer.think_start, tokenizer.think_end)
            yield call_forms.with_think_tags(messages, tags)
    if tokenizer.has_chat_template:
        yield call_forms.with_parts(messages)


def _rendered_form(
    tokenizer: Tokenizer,
    form: list[dict[str, Any]],
    messages: list[dict[str, Any]],
    tools: Any,
    masked: int,
) -> _Rendered:
    text = render_text(tokenizer, form, tools)
    if _writes_parts(form, text):
        raise ValueError("the chat template writes parts as they are")
    prompt = render_text(tokenizer, form[:masked], tools, answering=True) if masked else ""
    missing = losses(messages, tools, text)
    # Some templates write a system message or tools only into an open prompt.
    completed = _completed(tokenizer, form, tools, text) if missing and len(form) > 1 else ""
    if completed and len(fewer := losses(messages, tools, completed)) < len(missing):
        return _Rendered(completed, prompt, fewer)
    return _Rendered(text, prompt, missing)


def _writes_parts(messages: Sequence[Any], text: str) -> bool:
    """Whether a chat template that takes texts alone wrote contents in parts as they are."""
    contents = [each["content"] for each in messages if isinstance(each.get("content"), list)]
    own = sum(len(_PART.findall(part["text"])) for content in contents for part in content)
    return bool(contents) and len(_PART.findall(text)) > own


_PART: Final = re.compile(r"""['"]type['"]: *['"]text['"]""")


def _completed(tokenizer: Tokenizer, form: list[dict[str, Any]], tools: Any, text: str) -> str:
    """The open prompt, continued by the last answer and its end as the finished text has them."""
    opened = ""
    with contextlib.suppress(Exception):  # a chat template may raise anything
        opened = render_text(tokenizer, form[:-1], tools, answering=True)
    content = form[-1].get("content") or ""
    content = content.strip() if isinstance(content, str) else ""
    at = text.rfind(content) if content and opened else -1
    if at < 0:
        return ""
    if at and text[at - 1] == " " and not opened.endswith(" "):
        at -= 1
    return opened + text[at:]


def _remedy(tokenizer: Tokenizer, messages: Sequence[Any]) -> str:
    """What helps where a chat template rejects a conversation."""
    if messages[0]["role"] == "system":
        with contextlib.suppress(Exception):
            render(tokenizer, messages[1:])
            return "move the system message into the user's message"
    return "change the record or choose another model"


def _closing(tokenizer: Tokenizer, tokens: Sequence[int]) -> int:
    """How many tokens at the end are an end token and whitespace after it; 0 without one.

    A model without an end token needs none.
    """
    if tokenizer.eos_token_id is None:
        return 1
    for count, token in enumerate(reversed(tokens), 1):
        if token in tokenizer.eos_token_ids:
            return count
        if tokenizer.decode([token]).strip():
            return 0
    return 0


def render(
    tokenizer: Tokenizer, messages: Sequence[Any], tools: Any = None, *, answering: bool = False
) -> tuple[int, ...]:
    """A conversation as tokens; `answering` adds the generation prompt.

    Without a chat template the contents are joined as plain text, ended unless `answering`.
    """
    tokens = _encode(tokenizer, render_text(tokenizer, messages, tools, answering=answering))
    if tokenizer.has_chat_template or answering:
        return tokens
    return _with_end(tokenizer, tokens)


def render_prompt(tokenizer: Tokenizer, messages: Sequence[Any]) -> tuple[int, ...]:
    """An open conversation as tokens, in the form that the chat template takes.

    Raises whatever the template raises for it.
    """
    if not tokenizer.has_chat_template:
        return render(tokenizer, messages, answering=True)
    failure: Exception | None = None
    first: str | None = None
    for tools, form in product((None, []), (messages, call_forms.with_parts(messages))):
        try:
            text = render_text(tokenizer, form, tools, answering=True)
        except Exception as error:  # a chat template may raise anything
            failure = failure or error
            continue
        if _writes_parts(form, text):
            continue
        if "a message" not in losses(messages, None, text):
            return _encode(tokenizer, text)
        first = first or text
    if first is not None:
        return _encode(tokenizer, first)
    assert failure is not None
    raise failure


def render_text(
    tokenizer: Tokenizer, messages: Sequence[Any], tools: Any = None, *, answering: bool = False
) -> str:
    """A conversation as the chat template renders it, or its contents joined without one."""
    if not tokenizer.has_chat_template:
        return "".join(message["content"] or "" for message in messages)
    return str(
        tokenizer.apply_chat_template(
            list(messages), tools=tools, add_generation_prompt=answering, tokenize=False
        )
    )


_DIRECTIVES: Final = "aAbBcdDeFgGhHIjklmMnpPrRsStTuUVwWxXyYzZ"
"""Letters that strftime replaces after a percent sign."""


def _write_date(tokenizer: Tokenizer, date: datetime) -> None:
    """Have the chat template write this date instead of the current one.

    transformers offers no way to pass it, so a macro of the template takes the function's place.
    """
    template = tokenizer.chat_template
    macro = _date_macro(date)
    if isinstance(template, str):
        tokenizer.chat_template = macro + template
    elif isinstance(template, dict):
        tokenizer.chat_template = {name: macro + each for name, each in template.items()}


def _date_macro(date: datetime) -> str:
    """A Jinja macro that formats this date as `strftime_now` does the current one."""
    written = [("%%", "\0")]
    for letter in _DIRECTIVES:
        written += [(f"%-{letter}", date.strftime(f"%-{letter}"))]
        written += [(f"%{letter}", date.strftime(f"%{letter}"))]
    calls = (f".replace({json.dumps(was)}, {json.dumps(now)})" for was, now in written)
    made = "format" + "".join(calls) + '.replace("\\u0000", "%")'
    # The plus sign keeps a line end with which the template begins.
    return "{%- macro strftime_now(format) -%}{{ " + made + " }}{%- endmacro +%}"


def writes_date(tokenizer: Tokenizer) -> bool:
    """Whether the chat template writes the current date."""
    return bool(tokenizer.has_chat_template) and "strftime_now" in str(tokenizer.chat_template)


def _encode(tokenizer: Tokenizer, text: str) -> tuple[int, ...]:
    """A rendered text as tokens; a chat template writes its own beginning token."""
    return tuple(tokenizer.encode(text, add_special_tokens=not tokenizer.has_chat_template))


def _text_tokens(tokenizer: Tokenizer, text: str) -> tuple[int, ...]:
    """A plain text with one beginning and one end token, also if it has them already."""
    has_begin, has_end = _own_ends(tokenizer, text)
    tokens = tuple(tokenizer.encode(text, add_special_tokens=not has_begin))
    return tokens if has_end else _with_end(tokenizer, tokens)


def _own_ends(tokenizer: Tokenizer, text: str) -> tuple[bool, bool]:
    """Whether a text begins with the beginning token, and whether it ends with an end token."""
    begin = tokenizer.bos_token
    ends = [tokenizer.convert_ids_to_tokens(each) for each in tokenizer.eos_token_ids]
    written = text.rstrip()
    has_end = any(isinstance(end, str) and bool(end) and written.endswith(end) for end in ends)
    return bool(begin) and text.startswith(begin), has_end


def token_view(tokenizer: Tokenizer, record: dict[str, Any], recipe: Recipe) -> TokenView:
    """A record as the trainer sees it. Raises `DataError` if it can't be trained."""
    for problem in problems(record):
        raise DataError(f"This record: {problem.problem}; {problem.remedy}.")
    unmaskable = mask_problem(record) if recipe.mask_prompt else None
    if unmaskable is not None:
        raise DataError(f"This record: {unmaskable.problem}; {unmaskable.remedy}.")
    tokenized = tokenize(tokenizer, record, recipe.mask_prompt)
    special = _special_ids(tokenizer)
    texts = _texts(tokenizer, tokenized.tokens, special)
    rows: dict[int, int] = {}
    targets: set[int] = set()
    for row, piece in enumerate(tokenized.pieces(recipe.max_seq_length, recipe.overlong)):
        positions = piece.positions(len(tokenized.tokens))
        rows |= {position: row for position in positions if position not in rows}
        targets.update(positions[piece.first_trained :])
    pieces = (
        TokenPiece(
            id=token,
            text=text,
            trained=index in targets,
            kept=index in rows,
            special=token in special,
            row=rows.get(index, 0),
        )
        for index, (token, text) in enumerate(zip(tokenized.tokens, texts, strict=True))
    )
    notes = _notes(tokenizer, record, tokenized, recipe.mask_prompt)
    templated = str(record["text"]) if tokenized.text is None else tokenized.text
    return TokenView(tuple(pieces), templated, tuple(notes))


def _notes(
    tokenizer: Tokenizer, fields: Fields, tokenized: TokenizedRecord, mask_prompt: bool
) -> Iterator[str]:
    """What to know about how this record is trained."""
    answers = [each for each in formats.conversation(fields) or () if each["role"] == "assistant"]
    if untrained := sum(map(is_untrained, answers)):
        yield f"{untrained} of {len(answers)} answers are marked as not to be trained."
    elif mask_prompt and len(answers) > 1:
        yield f"mask_prompt trains only the last of {len(answers)} answers."
    if not tokenized.prompt_is_prefix:
        yield (
            "The rendered record doesn't begin with its prompt; everything after the first "
            "difference is trained."
        )
    if tokenized.dated:
        yield "The chat template writes the current date; a run keeps that of its start."
    if lost := [loss for loss in LOSSES if loss in tokenized.losses]:
        what = " and ".join(filter(None, (", ".join(lost[:-1]), lost[-1])))
        yield f"The chat template leaves out {what} of this record."
    if tokenized.doubled:
        yield "The record begins with two beginning tokens or ends with two end tokens."
    if tokenized.text is None and any(_own_ends(tokenizer, fields["text"])):
        yield "The text has a beginning or end token of its own, so none is added."
    if tokenized.end_added:
        yield "The chat template doesn't end the answer, so the model's end token was added."


def first_line(error: Exception) -> str:
    """An exception's message, short enough for a sentence."""
    lines = [line.strip() for line in str(error).strip().splitlines()]
    if not lines:
        return type(error).__name__
    # A line that ends in a colon says only where; the next one says what.
    said = " ".join(lines[:2]) if lines[0].endswith(":") else lines[0]
    return said[:160].rstrip(".")


def _with_end(tokenizer: Tokenizer, tokens: tuple[int, ...]) -> tuple[int, ...]:
    end = tokenizer.eos_token_id
    return tokens if end is None or tokens[-1:] == (end,) else (*tokens, end)


def _common_prefix(tokens: Sequence[int], prompt: Sequence[int]) -> int:
    """The length of the common prefix of record and prompt.

    It may be shorter than the prompt: a template may open an answer with more than a finished one
    has (a thinking tag), and tokens may merge across the border.
    """
    pairs = zip(tokens, prompt, strict=False)
    return next(
        (index for index, (left, right) in enumerate(pairs) if left != right),
        min(len(tokens), len(prompt)),
    )


def _special_ids(tokenizer: Tokenizer) -> set[int]:
    added = tokenizer.added_tokens_decoder.items()
    return set(tokenizer.all_special_ids) | {token for token, each in added if each.special}


def _texts(tokenizer: Tokenizer, tokens: Sequence[int], special: set[int]) -> list[str]:
    """The text of each token; a character of several tokens is that of the last one."""
    texts: list[str] = []
    pending: list[int] = []
    for token, name in zip(tokens, tokenizer.convert_ids_to_tokens(list(tokens)), strict=True):
        if token in special:
            texts.append(name)
            pending = []
            continue
        pending.append(token)
        text = tokenizer.decode(pending, clean_up_tokenization_spaces=False)
        if text.endswith("\ufffd") and len(pending) < 4:
            texts.append("")
            continue
        # SentencePiece tokenizers drop a leading space when decoding.
        dropped = len(pending) == 1 and name.startswith("▁") and not text.startswith(" ")
        texts.append(" " + text if dropped else text)
        pending = []
    return texts
