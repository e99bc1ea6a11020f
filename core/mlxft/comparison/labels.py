"""What a person says about a run: its name, notes and tags, in its folder."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import msgspec

from mlxft.errors import RunError, StorageError
from mlxft.runs import lock
from mlxft.runs.directory import RunDirectory
from mlxft.storage.atomic_files import write_atomically
from mlxft.storage.regular_files import read_regular

FILE_NAME: Final = "labels.json"

MOST_CHARACTERS: Final = 80
"""Of a name or a tag."""

PATIENCE_SECONDS: Final = 10.0
"""How long a change waits for those of other processes, which take milliseconds each."""


class Labels(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A run's labels; the folder's name stays what commands name it by."""

    name: str = ""
    """Shown in place of the folder's, where there is one."""
    notes: str = ""
    tags: tuple[str, ...] = ()
    archived: bool = False
    """Left out of lists; its files stay."""
    pinned: bool = False
    """First in lists."""


NONE: Final = Labels()

_decoder = msgspec.json.Decoder(Labels)


def read_labels(run: RunDirectory) -> Labels:
    """A run's labels; none where there is no file or it can't be read."""
    try:
        return _decoder.decode(read_regular(run.path / FILE_NAME))
    except (OSError, ValueError):
        return NONE


def shown_name(run: RunDirectory) -> str:
    """The name that people see: the one they gave it, or the folder's."""
    return read_labels(run).name or run.name


def change_labels(run: RunDirectory, change: Callable[[Labels], Labels]) -> Labels:
    """Replace a run's labels by what `change` makes of them, whoever else changes them.

    Raises `RunError` for a file that isn't ours and for labels that can't be shown in a line, and
    `StorageError`.
    """
    file = run.path / FILE_NAME
    with lock.taken(run.path / f".{FILE_NAME}.lock", patience=PATIENCE_SECONDS) as held:
        if held is None:
            raise StorageError(f"{file}: another program holds its lock; try again.")
        labels = _checked(change(_read_strictly(run)))
        try:
            write_atomically(file, msgspec.json.encode(labels) + b"\n")
        except OSError as error:
            raise StorageError(
                f"{file}: the labels can't be written ({error.strerror}); check the disk and the "
                "folder's permissions."
            ) from None
    return labels


def _read_strictly(run: RunDirectory) -> Labels:
    """The labels, but no replacement for a file that holds something else."""
    file = run.path / FILE_NAME
    try:
        return _decoder.decode(read_regular(file))
    except FileNotFoundError:
        return NONE
    except (OSError, ValueError):
        raise RunError(
            f"{file}: this file doesn't hold labels; move or delete it, then label the run again."
        ) from None


def _checked(labels: Labels) -> Labels:
    """The labels without surrounding spaces and repeated tags. Raises `RunError`."""
    tags = tuple(dict.fromkeys(each.strip() for each in labels.tags))
    for tag in tags:
        if not tag or len(tag) > MOST_CHARACTERS or not tag.isprintable() or "," in tag:
            raise RunError(
                f"{tag!r} can't be a tag; use 1 to {MOST_CHARACTERS} characters without a comma."
            )
    name = labels.name.strip()
    if len(name) > MOST_CHARACTERS or not name.isprintable():
        raise RunError(
            f"{name[:MOST_CHARACTERS]!r} can't be a run's name; use at most {MOST_CHARACTERS} "
            "characters in one line."
        )
    return msgspec.structs.replace(labels, name=name, notes=labels.notes.strip(), tags=tags)


def with_tags(labels: Labels, added: tuple[str, ...], removed: tuple[str, ...] = ()) -> Labels:
    """The labels with other tags."""
    tags = (*(each for each in labels.tags if each not in removed), *added)
    return msgspec.structs.replace(labels, tags=tags)
