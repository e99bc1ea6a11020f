"""Models on this machine: in the hub's cache, imported ones, in folders, and GGUF files."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator
from fnmatch import fnmatch
from itertools import chain
from pathlib import Path
from typing import Any, Final

from mlxft.errors import ModelError
from mlxft.hub.listed import ListedModel, Machine, judged
from mlxft.memory.local_config import hub_cache, local_config, snapshot_of
from mlxft.storage.imported_models import is_gguf
from mlxft.storage.paths import cache_dir, demo_model, expanded
from mlxft.text.figures import short_path

TOKENIZER_FILES: Final = ("tokenizer.json", "tokenizer.model", "vocab.json", "tiktoken.model")
WEIGHTS: Final = "model*.safetensors"
INDEX: Final = "model.safetensors.index.json"
PARTIAL: Final = ".incomplete"
"""The end of the name of a file that is being downloaded."""

_MOST_FOLDERS: Final = 5_000
"""Folders that are searched; a home folder opened as a project may have any number."""

_NOT_MODELS: Final = frozenset(("adapters", "data", "node_modules", "__pycache__"))
_LM_STUDIO: Final = ("~/.lmstudio/models", "~/.cache/lm-studio/models")


def local_models(project: Path, machine: Machine) -> Iterator[ListedModel]:
    """All models on this machine; the demo's first, then those of the hub's cache and of folders.

    Reads config.json, and names, sizes and headers of other files, never weights.
    """
    seen: set[str] = set()
    for each in chain(_demo(machine), _cached(machine), _in_folders(project, machine)):
        if each.name not in seen:
            seen.add(each.name)
            yield each


def missing_files(folder: Path) -> str:
    """What a model folder lacks, in words; empty if it is complete."""
    names = {each.name for each in _files(folder)}
    weights = [name for name in names if fnmatch(name, WEIGHTS)]
    if not weights:
        return f"its weights ({WEIGHTS}) are missing"
    shards = _shards(folder / INDEX) if INDEX in names else set()
    if missing := shards - names:
        return f"{len(missing)} of its {len(shards)} weight files are missing"
    if not names.intersection(TOKENIZER_FILES):
        return "its tokenizer is missing"
    torn = next((name for name in sorted(weights) if _is_torn(folder / name)), None)
    return f"{torn} is shorter or longer than its header says" if torn else ""


def _shards(index: Path) -> set[str]:
    try:
        mapping = json.loads(index.read_bytes())["weight_map"]
        return {str(each) for each in mapping.values()}
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        return set()


def _is_torn(file: Path) -> bool:
    """Whether a safetensors file has another size than its header announces."""
    try:
        with file.open("rb") as opened:
            size = os.fstat(opened.fileno()).st_size
            length = int.from_bytes(opened.read(8), "little")
            if length > size - 8:
                return True
            header = json.loads(opened.read(length))
        ends = (each["data_offsets"][1] for name, each in header.items() if name != "__metadata__")
        return bool(size != 8 + length + max(ends, default=0))
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        return True


def _demo(machine: Machine) -> Iterator[ListedModel]:
    if demo_model().is_dir():
        yield _listed(ListedModel(name="demo", place="demo"), demo_model(), machine)


def _cached(machine: Machine) -> Iterator[ListedModel]:
    """The hub's models in its cache, also those whose download was interrupted."""
    for folder in sorted(_subfolders(hub_cache())):
        kind, _, rest = folder.name.partition("--")
        if kind != "models" or not rest:
            continue
        name = rest.replace("--", "/")
        snapshot = snapshot_of(name)
        if snapshot is not None:
            yield _listed(ListedModel(name=name, place="cache"), snapshot, machine)
        elif partial := partial_bytes(folder / "blobs"):
            yield ListedModel(
                name=name,
                place="cache",
                size=partial,
                hindrance="its download was interrupted; download it again to continue",
                incomplete=True,
            )


def partial_bytes(blobs: Path) -> int:
    """What has arrived of files whose download was interrupted."""
    return sum(each.stat().st_size for each in _files(blobs) if each.name.endswith(PARTIAL))


def _in_folders(project: Path, machine: Machine) -> Iterator[ListedModel]:
    """Models in the project, two levels deep, of imports, and of LM Studio."""
    yield from _gguf_files(project, project)
    budget = _MOST_FOLDERS
    for root in (project, cache_dir() / "models", *(expanded(each) for each in _LM_STUDIO)):
        waiting = [(each, 1) for each in sorted(_subfolders(root))]
        for folder, depth in waiting:
            budget -= 1
            if budget < 0 or folder == demo_model():
                continue
            if (folder / "config.json").is_file():
                if any(fnmatch(each.name, WEIGHTS) for each in _files(folder)):
                    inside = folder.is_relative_to(project)
                    name = str(folder.relative_to(project)) if inside else short_path(folder)
                    yield _listed(ListedModel(name=name, place="folder"), folder, machine)
                continue
            if root == project:
                yield from _gguf_files(folder, project)
            if depth < 2:
                waiting += [(each, 2) for each in sorted(_subfolders(folder))]


def _gguf_files(folder: Path, project: Path) -> Iterator[ListedModel]:
    """GGUF files of a folder, whose metadata is not read; parts of a vision model are left out."""
    for each in sorted(_files(folder)):
        is_part = each.name.startswith("mmproj") or each.stem.endswith("-adapter")
        if is_gguf(each) and not is_part:
            yield ListedModel(
                name=str(each.relative_to(project)),
                place="gguf",
                folder=str(each),
                size=each.stat().st_size,
                quantization="GGUF",
            )


def _listed(listed: ListedModel, folder: Path, machine: Machine) -> ListedModel:
    import msgspec

    located = msgspec.structs.replace(
        listed, folder=str(folder), size=sum(each.stat().st_size for each in _files(folder))
    )
    try:
        config: Any = local_config(str(folder))
    except ModelError as error:
        problem = str(error).removeprefix(f"{folder}/")
        return msgspec.structs.replace(located, hindrance=problem)
    return judged(located, config, machine, missing_files(folder))


def _subfolders(folder: Path) -> list[Path]:
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        return [
            Path(each.path)
            for each in entries
            if each.is_dir() and not each.name.startswith(".") and each.name not in _NOT_MODELS
        ]
    return []


def _files(folder: Path) -> list[Path]:
    """The files of a folder; those that links lead to, too."""
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        return [Path(each.path) for each in entries if each.is_file()]
    return []
