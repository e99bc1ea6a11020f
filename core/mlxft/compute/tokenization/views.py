"""A record as the trainer sees it, for people."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from mlxft.compute.tokenization.records import TokenizedRecord, own_ends, tokenize
from mlxft.compute.tokenization.tokenizers import Tokenizer
from mlxft.data import formats
from mlxft.data.formats import Fields
from mlxft.data.messages import is_untrained
from mlxft.data.record_checks import mask_problem, problems
from mlxft.data.rendering import LOSSES
from mlxft.data.token_view import TokenPiece, TokenView
from mlxft.errors import DataError
from mlxft.recipe import Recipe


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
    weights: dict[int, float] = {}
    for row, piece in enumerate(tokenized.pieces(recipe.max_seq_length, recipe.overlong)):
        positions = piece.positions(len(tokenized.tokens))
        rows |= {position: row for position in positions if position not in rows}
        for start, stop, weight in piece.spans:
            weights |= dict.fromkeys(positions[start:stop], weight)
    pieces = (
        TokenPiece(
            id=token,
            text=text,
            trained=index in weights,
            weight=weights.get(index, 1.0),
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
    if tokenized.text is None and any(own_ends(tokenizer, fields["text"])):
        yield "The text has a beginning or end token of its own, so none is added."
    if tokenized.end_added:
        yield "The chat template doesn't end the answer, so the model's end token was added."


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
