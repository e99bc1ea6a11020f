"""`conversations`, `export-conversation` and `delete-conversation`: what was said in a project."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from pathlib import Path

from mlxft.chat import history
from mlxft.chat.reopen import Conversation, conversations, exported
from mlxft.errors import RunError, StorageError
from mlxft.text import figures
from mlxft.text.printable import printable_line
from mlxft_tui.session import Session

ID_CHARACTERS = 8
"""Characters of a conversation's name that are shown; a command takes any that are enough."""


def list_conversations(session: Session, *, as_json: bool) -> int:
    """Print the project's conversations, the latest first."""
    found = _conversations(session)
    if as_json:
        print(json.dumps([_mapping(each) for each in found], indent=1))
        return 0
    for each in found:
        age = figures.age(time.time() - each.time)
        prompts = "1 prompt" if each.prompts == 1 else f"{each.prompts} prompts"
        first = printable_line(each.first_prompt)
        print(f"{each.name[:ID_CHARACTERS]}  {age:>7}  {prompts:<11}  {first}")
    if not found:
        print("no conversations yet")
    return 0


def export_conversations(session: Session, names: Sequence[str], file: Path) -> int:
    """Append conversations to a file as training records, as the app does. Raises `MlxftError`."""
    count = 0
    for each in _named(session, names):
        records, left_out = exported(each)
        history.export(file, records)
        count += len(records)
        if left_out:
            skipped = "1 prompt" if left_out == 1 else f"{left_out} prompts"
            print(f"{each.name[:ID_CHARACTERS]}: skipped {skipped} without a complete answer")
    if not count:
        raise StorageError("There is no complete answer to export; choose another conversation.")
    print(f"Added {'1 record' if count == 1 else f'{count} records'} to {file}.")
    return 0


def delete_conversations(session: Session, names: Sequence[str]) -> int:
    """Remove conversations from the project's history for good. Raises `MlxftError`."""
    for each in _named(session, names):
        history.delete(session.adapters / history.HISTORY_NAME, each.name)
        print(f"Deleted {each.name[:ID_CHARACTERS]}: {printable_line(each.first_prompt)}")
    return 0


def _conversations(session: Session) -> list[Conversation]:
    return conversations(history.remembered(session.adapters / history.HISTORY_NAME))


def _named(session: Session, names: Sequence[str]) -> list[Conversation]:
    """The conversations with these names, or beginnings of them. Raises `RunError`."""
    found = _conversations(session)
    return [_one(name, [each for each in found if each.name.startswith(name)]) for name in names]


def _one(name: str, matching: Sequence[Conversation]) -> Conversation:
    if len(matching) == 1:
        return matching[0]
    what = "several conversations begin with it" if matching else "there is no such conversation"
    raise RunError(f"{name}: {what}; mlxft-tui conversations lists them.")


def _mapping(conversation: Conversation) -> dict[str, object]:
    last = conversation.entries[-1]
    return {
        "conversation": conversation.name,
        "time": conversation.time,
        "prompts": conversation.prompts,
        "first_prompt": conversation.first_prompt,
        "model": last.model,
    }
