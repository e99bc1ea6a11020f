"""Saves conversations and corrected answers as training records."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mlxft import recipe as recipes
from mlxft.chat import corrections, history
from mlxft.chat.answerers import Answerer
from mlxft.chat.corrections import AddedRecord
from mlxft.chat.dialogue import Turn, records
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
    session: Session, recipe: Recipe, conversation: Sequence[Message], *, is_test_prompt: bool
) -> SavedCorrection:
    """Add a conversation to the recipe's training set, or to the project's copy of it.

    The saved recipe then trains on the copy. Raises `StorageError`, `DataError` and `RecipeError`.
    """
    before = session.data(recipe)
    data = corrections.writable_data(before, session.folder)
    copy = str(data.relative_to(session.folder)) if data != before else ""
    if copy:  # First, so that no crash leaves the record in a copy that isn't trained on.
        session.save_columns(recipes.replace(recipe, "data", copy))
    added = corrections.add_record(data, recipe.columns, conversation)
    records = records_in(added.file)
    notice = _correction_notice(added, records, copy, is_test_prompt=is_test_prompt)
    return SavedCorrection(notice, copy)


def _correction_notice(added: AddedRecord, records: int, copy: str, *, is_test_prompt: bool) -> str:
    parts = [f"Added to {added.file}, now {_count(records, 'record')}"]
    if copy:
        parts.append(f"the recipe now trains on {copy}, a copy of its data")
    if added.replaces:
        parts.append(f"it replaces {added.replaces.name} and contains its records")
    if is_test_prompt:
        parts.append("evaluations use this prompt, so remove it there or they will be biased")
    if added.differs_from:
        parts.append(f"mlx_lm can't train messages next to {added.differs_from}, mlxft-tui can")
    return f"{'; '.join(parts)}."


def _count(number: int, noun: str) -> str:
    return f"1 {noun}" if number == 1 else f"{number} {noun}s"
