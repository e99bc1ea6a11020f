"""A record as the trainer sees it, for people."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from mlxft.compute.tokenization.records import TokenizedRecord, own_ends, tokenize
from mlxft.compute.tokenization.tokenizers import Tokenizer, special_ids
from mlxft.data import formats
from mlxft.data.formats import Fields
from mlxft.data.messages import is_untrained, weight_of
from mlxft.data.record_checks import mask_problem, problems
from mlxft.data.rendering import LOSSES
from mlxft.data.token_view import TokenPiece, TokenView
from mlxft.errors import DataError
from mlxft.recipe import Recipe


def token_view(tokenizer: Tokenizer, record: dict[str, Any], recipe: Recipe) -> TokenView:
    """A record as the trainer sees it. Raises `DataError` if it can't be trained."""
    for problem in problems(record):
        raise DataError(f"This record: {problem.problem}; {problem.remedy}.")
    unmaskable = mask_problem(record) if recipe.train_on != "everything" else None
    if unmaskable is not None:
        raise DataError(f"This record: {unmaskable.problem}; {unmaskable.remedy}.")
    found = tokenize(tokenizer, record, recipe)
    pieces: list[TokenPiece] = []
    for each in found:
        first_row = pieces[-1].row + 1 if pieces else 0
        pieces += _pieces(tokenizer, each, recipe, first_row)
    templated = [str(record["text"]) if each.text is None else each.text for each in found]
    notes = _notes(tokenizer, record, found, recipe)
    return TokenView(tuple(pieces), "\n\n".join(templated), tuple(notes))


def _pieces(
    tokenizer: Tokenizer, tokenized: TokenizedRecord, recipe: Recipe, first_row: int
) -> Iterator[TokenPiece]:
    """A record's tokens, of which the first is in this row."""
    special = special_ids(tokenizer)
    texts = _texts(tokenizer, tokenized.tokens, special)
    rows: dict[int, int] = {}
    weights: dict[int, float] = {}
    for row, piece in enumerate(tokenized.pieces(recipe.max_seq_length, recipe.overlong)):
        positions = piece.positions(len(tokenized.tokens))
        rows |= {position: row for position in positions if position not in rows}
        for start, stop, weight in piece.spans:
            weights |= dict.fromkeys(positions[start:stop], weight)
    for index, (token, text) in enumerate(zip(tokenized.tokens, texts, strict=True)):
        yield TokenPiece(
            id=token,
            text=text,
            trained=index in weights,
            weight=weights.get(index, 1.0),
            kept=index in rows,
            special=token in special,
            row=first_row + rows.get(index, 0),
        )


def _notes(
    tokenizer: Tokenizer, fields: Fields, found: Sequence[TokenizedRecord], recipe: Recipe
) -> Iterator[str]:
    """What to know about how this record is trained."""
    answers = [each for each in formats.conversation(fields) or () if each["role"] == "assistant"]
    if untrained := sum(map(is_untrained, answers)):
        yield f"{untrained} of {len(answers)} answers are marked as not to be trained."
    elif recipe.train_on == "last_answer" and len(answers) > 1:
        yield f"train_on last_answer trains only the last of {len(answers)} answers."
    if len(found) > 1:
        yield (
            f"The chat template writes earlier answers otherwise than the last one, so this "
            f"conversation is trained as {len(found)} records."
        )
    if weight_of(fields) != 1:
        yield f"The record has the weight {weight_of(fields):g} in the loss."
    if not all(each.prompt_is_prefix for each in found):
        yield (
            "The rendered record doesn't begin with its prompt; everything after the first "
            "difference is trained."
        )
    tokenized = found[-1]
    if tokenized.dated:
        yield "The chat template writes the current date; a run keeps that of its start."
    if lost := [loss for loss in LOSSES if any(loss in each.losses for each in found)]:
        what = " and ".join(filter(None, (", ".join(lost[:-1]), lost[-1])))
        yield f"The chat template leaves out {what} of this record."
    if any(each.thoughtless for each in found):
        yield (
            "The record has no thought, so the model learns to answer without one; with reasoning "
            "mask, or chat_template_args {enable_thinking: false}, it keeps how it thinks."
        )
    if any(each.doubled for each in found):
        yield "The record begins with two beginning tokens or ends with two end tokens."
    if tokenized.text is None and any(own_ends(tokenizer, fields["text"])):
        yield "The text has a beginning or end token of its own, so none is added."
    if tokenized.end_added:
        yield "The chat template doesn't end the answer, so the model's end token was added."


def _texts(tokenizer: Tokenizer, tokens: Sequence[int], special: frozenset[int]) -> list[str]:
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
