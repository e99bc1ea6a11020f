"""Datasets of the Hugging Face Hub, downloaded once as JSON Lines into the cache."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Final

import msgspec

from mlxft.data.containers import atomic_write
from mlxft.data.split_files import SplitName, kind_of
from mlxft.data.table_rows import text_row
from mlxft.errors import DataError
from mlxft.storage.paths import cache_dir

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
    """Whether a text is a dataset id and not an existing path in the folder.

    An id is ``owner/name``, or ``owner/name:part`` for one configuration of a dataset.
    """
    is_id = bool(_ID.fullmatch(text)) and not kind_of(Path(text))
    return is_id and not (folder / text).exists()


def folder_of(name: str) -> Path:
    """The cache folder for a dataset."""
    return cache_dir() / "hub-data" / name.replace("/", "--").replace(":", "--")


def fetched(name: str) -> Path:
    """The folder with a dataset's splits, downloaded on first use.

    Raises `DataError` if the `datasets` library is missing or the download fails.
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
            f"{name}: no such file or folder, and a dataset of the Hub needs the datasets library; "
            "pip install 'mlxft-tui[datasets]' or fix the path."
        ) from None
    datasets.disable_progress_bars()
    owner_and_name, _, part = name.partition(":")
    try:
        return datasets.load_dataset(owner_and_name, part or None)
    except Exception as error:  # datasets raises whatever the set and the network provoke
        lines = str(error).strip().splitlines() or [type(error).__name__]
        raise DataError(
            f"{name}: the dataset can't be downloaded ({lines[0][:200].rstrip('.')}); check its "
            "name and the connection; one configuration is written as owner/name:part."
        ) from None


def _write(folder: Path, splits: Any, name: str) -> None:
    known = {_SPLITS[each]: each for each in splits if each in _SPLITS}
    if len(splits) == 1:
        known = {"train": next(iter(splits))}
    if "train" not in known:
        there = ", ".join(map(str, splits)) or "none"
        raise DataError(f"{name}: the dataset has no train split ({there}); choose another.")
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        # Train comes last: if it exists, all do.
        for split in sorted(known, reverse=True, key=lambda each: (each != "train", each)):
            with atomic_write(folder / f"{split}.jsonl") as file:
                for row in splits[known[split]]:
                    file.write(msgspec.json.encode(text_row(row), enc_hook=str) + b"\n")
    except OSError as error:
        raise DataError(f"{folder}: the dataset can't be written ({error.strerror}).") from None
