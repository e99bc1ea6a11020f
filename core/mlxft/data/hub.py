"""Data sets of the Hugging Face hub, fetched once as JSON lines into a folder of the cache."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Final

import msgspec

from mlxft.data.containers import kind_of, written
from mlxft.data.dataset import SplitName
from mlxft.data.table_rows import text_row
from mlxft.errors import DataError
from mlxft.paths import cache_dir

_ID: Final = re.compile(r"[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95}(:[\w.-]{1,96})?")
_SPLITS: Final[dict[str, SplitName]] = {
    "train": "train",
    "train_sft": "train",
    "validation": "valid",
    "valid": "valid",
    "dev": "valid",
    "test": "test",
    "test_sft": "test",
}


def is_hub_id(text: str, folder: Path) -> bool:
    """Whether a text can be the id of a data set, and is no path that a folder holds.

    An id is ``owner/name``, or ``owner/name:part`` for one of a set's configurations.
    """
    is_id = bool(_ID.fullmatch(text)) and not kind_of(Path(text))
    return is_id and not (folder / text).exists()


def folder_of(name: str) -> Path:
    """The folder of the cache that a data set is fetched into."""
    return cache_dir() / "hub-data" / name.replace("/", "--").replace(":", "--")


def fetched(name: str) -> Path:
    """The folder that holds a data set's splits, fetched at the first call.

    Raises `DataError` without the `datasets` library, or where the set can't be had.
    """
    folder = folder_of(name)
    if not (folder / "train.jsonl").exists():
        _write(folder, _loaded(name), name)
    return folder


def _loaded(name: str) -> Any:
    try:
        import datasets
    except ImportError:
        raise DataError(
            f"{name}: no such file or folder is here, and a data set of the hub needs the datasets "
            "library; pip install 'mlxft-tui[datasets]', or correct the path."
        ) from None
    datasets.disable_progress_bars()
    owner_and_name, _, part = name.partition(":")
    try:
        return datasets.load_dataset(owner_and_name, part or None)
    except Exception as error:  # datasets raises whatever the set and the network provoke
        lines = str(error).strip().splitlines() or [type(error).__name__]
        raise DataError(
            f"{name}: the data set can't be fetched ({lines[0][:200].rstrip('.')}); check its "
            "name and the connection; a part of it is named as owner/name:part."
        ) from None


def _write(folder: Path, splits: Any, name: str) -> None:
    known = {_SPLITS[each]: each for each in splits if each in _SPLITS}
    if len(splits) == 1:
        known = {"train": next(iter(splits))}
    if "train" not in known:
        there = ", ".join(map(str, splits)) or "none"
        raise DataError(f"{name}: the set has no split named train ({there}); choose another.")
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        # Train comes last: where it is there, all are.
        for split in sorted(known, reverse=True, key=lambda each: (each != "train", each)):
            with written(folder / f"{split}.jsonl") as file:
                for row in splits[known[split]]:
                    file.write(msgspec.json.encode(text_row(row), enc_hook=str) + b"\n")
    except OSError as error:
        raise DataError(f"{folder}: the set can't be written ({error.strerror}).") from None
