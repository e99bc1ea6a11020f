"""Which files of a folder hold train, valid and test, by the Hugging Face Hub's rule for names."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final, Literal, get_args

SplitName = Literal["train", "valid", "test"]

PLAIN: Final = (".jsonl", ".ndjson")
KINDS: Final = (*PLAIN, ".json", ".csv", ".tsv", ".parquet", ".arrow", ".feather")
COMPRESSED: Final = (".gz", ".zst")

WORDS: Final[dict[SplitName, tuple[str, ...]]] = {
    "train": ("train", "training"),
    "valid": ("valid", "validation", "val", "dev"),
    "test": ("test", "testing", "eval", "evaluation"),
}
"""Words in the name of a file or folder that assign it to a split."""

_SPLIT_OF: Final = {word: name for name, words in WORDS.items() for word in words}

_NOT_RECORDS: Final = (
    "dataset_info.json",
    "dataset_infos.json",
    "dataset_dict.json",
    "state.json",
    "config.json",
    "package.json",
    "recipe.json",
)
"""Files beside the records, which `datasets` and the Hub write."""

_SHARD: Final = re.compile(r"-(\d{5})-of-(\d{5})(-[0-9a-f]{6,})?(?=\.)")
_ANY: Final = ".*"
"""The suffix of a path that stands for all files of a split: ``data/train.*``."""

DEPTH: Final = 3
"""Levels of folders that are searched below one that is named after a split, or ``data``."""


def kind_of(path: Path) -> str:
    """The suffix that gives a file's kind, ignoring compression; empty for other files."""
    suffixes = [each.lower() for each in path.suffixes]
    if suffixes and suffixes[-1] in COMPRESSED:
        suffixes.pop()
    return suffixes[-1] if suffixes and suffixes[-1] in KINDS else ""


def split_file(folder: Path, name: SplitName) -> Path:
    """The path of a split; one that doesn't exist if there is none.

    It may be a file, a shard that stands for all, a folder that stands for its files, or a name
    like ``train.*`` that stands for all files of the split. If `folder` is a file, it is the
    training set; so are all files if none is named after a split.
    """
    if folder.is_file():
        return folder if name == "train" else folder / f"{name}.jsonl"
    plain = folder / f"{name}.jsonl"
    if plain.exists():
        return plain
    files = files_of(folder, name)
    if not files:
        return plain
    if len(files) == 1 or shards_of(files[0]) == tuple(files):
        return files[0]
    parent = files[0].parent
    whole = {each.parent for each in files} == {parent} and list(files) == record_files(parent)
    return parent if whole else folder / f"{name}{_ANY}"


def files_of(folder: Path, name: SplitName) -> list[Path]:
    """All files of a split, by the words in their names and in those of their folders."""
    found = list(_candidates(folder))
    named = [(each, _split_of(each, folder)) for each in found]
    if not any(split for _, split in named):
        return [each for each in found if name == "train"]
    files = [each for each, split in named if split == name]
    return _of_one_kind(files, name)


def _of_one_kind(files: list[Path], name: SplitName) -> list[Path]:
    """Files named just like the split come first, and of these the most readable kind."""
    exact = [each for each in files if _stem(each) in WORDS[name]]
    if not exact:
        return files
    best = min(exact, key=_preference)
    shards = shards_of(best)
    return list(shards) if len(shards) > 1 else [best]


def _preference(path: Path) -> tuple[int, int, str]:
    stems = [word for words in WORDS.values() for word in words]
    return stems.index(_stem(path)), KINDS.index(kind_of(path)), path.name


def _stem(path: Path) -> str:
    return _SHARD.sub("", path.name).partition(".")[0].lower()


def _split_of(path: Path, folder: Path) -> SplitName | None:
    """The split that a file's name, or else one of its folders, says."""
    relative = path.relative_to(folder)
    stem = relative.name.partition(".")[0]
    found = map(split_named, (stem, *reversed(relative.parts[:-1])))
    return next((split for split in found if split), None)


def split_named(text: str) -> SplitName | None:
    """The split that the first word of its kind in a name says."""
    words = re.split(r"[^a-z]+", text.lower())
    return next((_SPLIT_OF[word] for word in words if word in _SPLIT_OF), None)


def _candidates(folder: Path) -> Iterator[Path]:
    """Record files in the folder, and in folders that are named after a split.

    Without any of these, those in its folder ``data``, as in a clone from the Hub.
    """
    found = [*record_files(folder)]
    for inner in _folders(folder):
        if split_named(inner.name):
            found += _below(inner, DEPTH)
    yield from found or _below(folder / "data", DEPTH)


def _below(folder: Path, depth: int) -> list[Path]:
    found = record_files(folder)
    for inner in _folders(folder) if depth else ():
        found += _below(inner, depth - 1)
    return found


def _folders(folder: Path) -> list[Path]:
    try:
        found = sorted(folder.iterdir())
    except OSError:
        return []
    return [each for each in found if not each.name.startswith(".") and each.is_dir()]


def record_files(folder: Path) -> list[Path]:
    """The files in a folder that may hold records, by name."""
    try:
        found = sorted(folder.iterdir())
    except OSError:
        return []
    return [each for each in found if is_record_file(each) and each.is_file()]


def is_record_file(path: Path) -> bool:
    """Whether a file may hold records, by its name."""
    is_hidden = path.name.startswith(".")
    return bool(kind_of(path)) and path.name not in _NOT_RECORDS and not is_hidden


def parts_of_split(path: Path) -> tuple[Path, ...]:
    """The files of a path like ``train.*``; empty for other paths."""
    name = path.name.removesuffix(_ANY)
    if not path.name.endswith(_ANY) or name not in get_args(SplitName):
        return ()
    return tuple(files_of(path.parent, _SPLIT_OF[name]))


def shards_of(path: Path) -> tuple[Path, ...]:
    """All shards of a dataset, given the first; missing ones are included by a plain name."""
    found = _SHARD.search(path.name)
    if found is None or int(found[1]) or int(found[2]) < 2:
        return (path,)
    return tuple(_shard(path, found, at) for at in range(int(found[2])))


def _shard(path: Path, first: re.Match[str], at: int) -> Path:
    before, after = path.name[: first.start()], path.name[first.end() :]
    plain = path.with_name(f"{before}-{at:05}-of-{first[2]}{after}")
    if plain.exists() or not first[3]:
        return plain
    hashed = f"{before}-{at:05}-of-{first[2]}-*{after}"
    return next(iter(sorted(path.parent.glob(hashed))), plain)
