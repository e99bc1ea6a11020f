"""Data sets of the Hugging Face hub, fetched once as JSON lines into a folder of the cache."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any, Final

import msgspec

from mlxft.data.containers import written
from mlxft.data.dataset import SplitName, split_file
from mlxft.errors import DataError
from mlxft.paths import cache_dir

_ID: Final = re.compile(r"[\w.-]{1,96}/[\w.-]{1,96}")
_SPLITS: Final[dict[str, SplitName]] = {
    "train": "train",
    "train_sft": "train",
    "validation": "valid",
    "valid": "valid",
    "dev": "valid",
    "test": "test",
    "test_sft": "test",
}


def is_hub_id(text: str) -> bool:
    """Whether a text can be the id of a data set: ``owner/name``, and no path that is there."""
    return bool(_ID.fullmatch(text)) and not os.path.exists(text)


def fetched(name: str) -> Path:
    """The folder that holds a data set's splits, fetched at the first call.

    Raises `DataError` without the `datasets` library, or where the set can't be had.
    """
    folder = cache_dir() / "hub-data" / name.replace("/", "--")
    if not split_file(folder, "train").exists():
        _write(folder, _loaded(name), name)
    return folder


def _loaded(name: str) -> Any:
    try:
        import datasets
    except ImportError:
        raise DataError(
            f"{name}: a data set of the hub needs the datasets library; "
            "pip install 'mlxft-tui[datasets]', or give a file."
        ) from None
    datasets.disable_progress_bars()
    try:
        return datasets.load_dataset(name)
    except Exception as error:  # datasets raises whatever the set and the network provoke
        lines = str(error).strip().splitlines() or [type(error).__name__]
        raise DataError(
            f"{name}: the data set can't be fetched ({lines[0][:200].rstrip('.')}); check its "
            "name and the connection."
        ) from None


def _write(folder: Path, splits: Any, name: str) -> None:
    known = {_SPLITS[each]: each for each in splits if each in _SPLITS}
    if "train" not in known:
        there = ", ".join(map(str, splits)) or "none"
        raise DataError(f"{name}: the set has no split named train ({there}); choose another.")
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    # Train comes last: where it is there, all are.
    for split in sorted(known, reverse=True, key=lambda each: (each != "train", each)):
        with written(folder / f"{split}.jsonl") as file:
            for row in splits[known[split]]:
                file.write(msgspec.json.encode(row, enc_hook=str) + b"\n")
