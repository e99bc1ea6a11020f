"""Datasets of the Hugging Face Hub, downloaded once and kept as JSON Lines in the cache.

Their files are read as if they lay in a folder here: other readers guess types, and change texts
that look like dates.
"""

from __future__ import annotations

import itertools
import re
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any, Final, get_args

from mlxft.data.container_errors import ContainerError
from mlxft.data.containers import atomic_write, copy_lines
from mlxft.data.hub_files import configuration, files_by_split
from mlxft.data.hub_files import folder_of as folder_in_dataset
from mlxft.data.split_files import SplitName, files_of, is_record_file, kind_of, split_named
from mlxft.errors import DataError
from mlxft.recipe.hub_data import HubData, hub_data, parsed_slice
from mlxft.storage.paths import cache_dir

_CARD: Final = "README.md"


def is_hub_id(text: str, folder: Path) -> bool:
    """Whether a text is a dataset id and not an existing path in the folder.

    An id is what `hub_data` reads.
    """
    is_id = hub_data(text) is not None and not kind_of(Path(text))
    return is_id and not (folder / text).exists()


def folder_of(name: str) -> Path:
    """The cache folder for a dataset."""
    return cache_dir() / "hub-records" / re.sub(r"[/:]", "--", name)


def fetched(name: str) -> Path:
    """The folder with a dataset's splits, downloaded on first use. Raises `DataError`."""
    folder, data = folder_of(name), hub_data(name)
    if (folder / "train.jsonl").exists():
        return folder
    if data is None or not data.slices:
        _write(folder, name, _downloaded(name))
    else:
        _write_slices(folder, name, data, fetched(data.whole))
    return folder


def _write_slices(folder: Path, name: str, data: HubData, whole: Path) -> None:
    """Write the slices that a name gives of a dataset that is here."""
    slices = dict(zip(get_args(SplitName), data.slices, strict=False))
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        for use in sorted(slices, key=lambda each: each == "train"):
            with atomic_write(folder / f"{use}.jsonl") as file:
                if not _copy_slice(slices[use], whole, file):
                    raise DataError(f"{name}: {slices[use]} has no records; choose another slice.")
    except OSError as error:
        raise DataError(
            f"{name}: the dataset can't be kept in {folder} ({error.strerror})."
        ) from None


def _copy_slice(text: str, whole: Path, file: IO[bytes]) -> int:
    """Copy a slice's records, and count them."""
    wanted = parsed_slice(text)
    use = split_named(wanted.split) if wanted else None
    source = whole / f"{use}.jsonl"
    if wanted is None or not source.exists():
        return 0
    with source.open("rb") as lines:
        start, stop = wanted.bounds(sum(1 for _ in lines))
    with source.open("rb") as lines:
        file.writelines(itertools.islice(lines, start, max(start, stop)))
    return max(0, stop - start)


def _downloaded(name: str) -> Mapping[SplitName, Sequence[Path]]:
    """The files of each split, in the Hub's own cache."""
    dataset, _, part = name.partition(":")
    try:
        return _files(dataset, part)
    except Exception as error:  # the Hub's library raises whatever the network provokes
        lines = str(error).strip().splitlines() or [type(error).__name__]
        raise DataError(
            f"{name}: the dataset can't be downloaded ({lines[0][:200].rstrip('.')}); check its "
            "name and the connection; one part of it is written as owner/name:part."
        ) from None


def _files(dataset: str, part: str) -> Mapping[SplitName, Sequence[Path]]:
    import huggingface_hub

    there = huggingface_hub.HfApi().list_repo_files(dataset, repo_type="dataset")
    names = [each for each in there if is_record_file(Path(each))]
    config = configuration(_card(dataset) if _CARD in there else {}, part)
    listed = files_by_split(config, names) if config is not None else None
    inside = folder_in_dataset(config, part)
    if listed is None and inside:
        names = [each for each in names if each.startswith(f"{inside}/")]
    wanted = names if listed is None else [each for files in listed.values() for each in files]
    if not wanted:
        raise ValueError("it has no files of records, such as JSONL, CSV or Parquet")
    root = Path(
        huggingface_hub.snapshot_download(dataset, repo_type="dataset", allow_patterns=wanted)
    )
    if listed is not None:
        return {split: [root / each for each in files] for split, files in listed.items()}
    return {split: files_of(root / inside, split) for split in get_args(SplitName)}


def _card(dataset: str) -> dict[str, Any]:
    import huggingface_hub

    path = huggingface_hub.hf_hub_download(dataset, _CARD, repo_type="dataset")
    return huggingface_hub.metadata_load(path) or {}


def _write(folder: Path, name: str, splits: Mapping[SplitName, Sequence[Path]]) -> None:
    if not splits.get("train"):
        there = ", ".join(each for each in splits if splits[each]) or "none"
        raise DataError(f"{name}: the dataset has no train split ({there}); choose another.")
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        # Train comes last: if it exists, all do.
        for split in sorted(splits, key=lambda each: each == "train"):
            if splits[split]:
                with atomic_write(folder / f"{split}.jsonl") as file:
                    for path in splits[split]:
                        copy_lines(path, file)
    except ContainerError as error:
        raise DataError(f"{name}: {error.problem}; {error.remedy}.") from None
    except (OSError, EOFError, ValueError, zlib.error) as error:
        reason = str(getattr(error, "strerror", None) or error).rstrip(".")
        raise DataError(f"{name}: the dataset can't be kept in {folder} ({reason}).") from None
