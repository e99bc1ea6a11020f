"""Saves conversations and corrected answers as training records."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mlxft import recipe as recipes
from mlxft.chat import correction_log, corrections, history
from mlxft.chat.answerers import Answerer
from mlxft.chat.correction_log import SavedRecord
from mlxft.chat.corrections import AddedRecord
from mlxft.chat.dialogue import End, Turn, records
from mlxft.conversation.messages import Message
from mlxft.data.index import records_in
from mlxft.recipe import Recipe
from mlxft_tui.session import Session

EXPORT_NAME = "chat_export.jsonl"


def export_conversation(
    file: Path, turns: Sequence[Turn], answerer: Answerer, system: str
) -> str | None:
    """Append an answerer's complete answers to a file; returns a notice, None if it has none.

    Raises `StorageError`.
    """
    found, left_out = records(turns, answerer, system)
    if not found:
        return None
    history.export(file, found)
    notice = f"Added {_count(len(found), 'record')} to {file}"
    if len(found) > 1:
        notice += ", one per test prompt and what followed it"
    if left_out:
        notice += f"; skipped {_count(left_out, 'prompt')} without a complete answer"
    return f"{notice}."


@dataclass(frozen=True)
class SavedCorrection:
    """The outcome of saving a corrected answer."""

    notice: str
    data: str
    """The copy the recipe must train on from now on; empty if its data is the same as before."""


def save_correction(
    session: Session,
    recipe: Recipe,
    conversation: Sequence[Message],
    *,
    answer: str,
    is_test_prompt: bool,
) -> SavedCorrection:
    """Add a conversation to the recipe's training set, or to the project's copy of it.

    It replaces an earlier correction of the same `answer`. The saved recipe then trains on the
    copy. Raises `StorageError`, `DataError` and `RecipeError`.
    """
    log = session.adapters / correction_log.LOG_NAME
    before = session.data(recipe)
    data = corrections.writable_data(before, session.folder)
    copy = str(data.relative_to(session.folder)) if data != before else ""
    if copy:  # First, so that no crash leaves the record in a copy that isn't trained on.
        session.save_columns(recipes.replace(recipe, "data", copy))
    before_it = correction_log.latest(log, answer)

    def remember(added: AddedRecord) -> None:
        file = str(added.file.resolve())
        saved = SavedRecord(answer=answer, file=file, line=added.line, before=added.before)
        correction_log.remember(log, saved)

    added = corrections.add_record(data, recipe.columns, conversation, before_it, remember)
    records = records_in(added.file)
    notice = _correction_notice(added, records, copy, is_test_prompt=is_test_prompt)
    return SavedCorrection(notice, copy)


def _correction_notice(added: AddedRecord, records: int, copy: str, *, is_test_prompt: bool) -> str:
    what = "Added to" if added.before is None else "Replaced your earlier correction in"
    parts = [f"{what} {added.file}, now {_count(records, 'record')}"]
    if copy:
        parts.append(f"the recipe's data was copied to {copy}, where it trains from now on")
    if added.replaces:
        parts.append(f"it replaces {added.replaces.name} and contains its records")
    if is_test_prompt:
        parts.append("evaluations use its prompt, so remove it there or they will be biased")
    if added.differs_from:
        parts.append(f"mlx_lm can't train messages next to {added.differs_from}, mlxft-tui can")
    return f"{'; '.join(parts)}."


def undo_correction(session: Session) -> str | None:
    """Undo the project's latest correction; returns a notice, None if there is none.

    Raises `StorageError`.
    """
    log = session.adapters / correction_log.LOG_NAME
    saved = correction_log.latest(log)
    if saved is None:
        return None
    was_there = corrections.undo_record(saved)
    correction_log.forget_latest(log)
    if not was_there:
        return f"The record of your latest correction is no longer in {saved.file}."
    if saved.before is not None:
        return f"Your correction before it is back in {saved.file}."
    return f"Your latest correction is taken out of {saved.file}."


def earlier_answers(ends: Sequence[End], *, has_test_prompt: bool) -> str:
    """What a record holds besides a corrected answer if it is the whole conversation."""
    unfinished = sum(end != "stop" for end in ends)
    cut = f", {unfinished} cut off" if unfinished else ""
    test = "holds a test prompt, which biases evaluations; " if has_test_prompt else ""
    return f"{test}trains {_count(len(ends), 'earlier answer')} too{cut}"


def _count(number: int, noun: str) -> str:
    return f"1 {noun}" if number == 1 else f"{number} {noun}s"
