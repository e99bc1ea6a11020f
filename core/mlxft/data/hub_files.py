"""Which files of a Hugging Face dataset hold which split, by the configurations of its card; pure.

https://huggingface.co/docs/hub/datasets-manual-configuration
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, get_args

from mlxft.data.split_files import WORDS, SplitName, is_record_file, split_named

Card = Mapping[str, Any]
"""The metadata of a dataset's README.md."""


def configuration(card: Card, part: str) -> Card | None:
    """The configuration of this name, or the default one; None if the card has none.

    Raises `ValueError` with the names to choose from.
    """
    found = [each for each in _listed(card.get("configs")) if isinstance(each, Mapping)]
    if not found:
        return None
    names = [str(each.get("config_name", "default")) for each in found]
    if part:
        if part in names:
            return found[names.index(part)]
        raise ValueError(f"it has no part {part}, but {', '.join(names)}")
    default = next((each for each in found if each.get("default") is True), None)
    if default is not None or len(found) == 1 or "default" in names:
        return default or found[names.index("default") if "default" in names else 0]
    raise ValueError(f"it has several parts: {', '.join(names)}")


def files_by_split(config: Card, names: Sequence[str]) -> dict[SplitName, list[str]] | None:
    """The files that a configuration lists for each split; None if it lists none.

    Of several splits for one use, the one named like it is taken, or the one for fine-tuning.
    """
    listed = dict(_patterns(config.get("data_files")))
    if not listed:
        return None
    found: dict[SplitName, list[str]] = {}
    for use in get_args(SplitName):
        splits = [each for each in listed if split_named(each) == use]
        best = next((word for word in WORDS[use] if word in splits), None)
        best = best or next((each for each in splits if each.endswith("_sft")), None)
        chosen = [best] if best else splits
        files = [name for each in chosen for name in _matching(listed[each], config, names)]
        if files:
            found[use] = files
    return found


def folder_of(config: Card | None, part: str) -> str:
    """The folder of the dataset whose files belong to a part, where no patterns are listed."""
    if config is None:
        return part
    folder = config.get("data_dir")
    return folder.strip("/") if isinstance(folder, str) else ""


def _patterns(value: Any) -> Iterator[tuple[str, list[str]]]:
    """Splits and their patterns: patterns alone are the training set."""
    if isinstance(value, Mapping) and "path" not in value:
        yield from ((str(split), _listed(paths)) for split, paths in value.items())
        return
    loose: list[str] = []
    for each in _listed(value):
        if isinstance(each, Mapping) and "path" in each:
            yield str(each.get("split", "train")), _listed(each["path"])
        elif isinstance(each, str):
            loose.append(each)
    if loose:
        yield "train", loose


def _listed(value: Any) -> list[Any]:
    if value is None:
        return []
    return list(value) if isinstance(value, list) else [value]


def _matching(patterns: Sequence[str], config: Card, names: Sequence[str]) -> Iterator[str]:
    folder = config.get("data_dir")
    prefix = f"{folder.strip('/')}/" if isinstance(folder, str) else ""
    for name in names:
        matches = any(_regex(prefix + str(each)).fullmatch(name) for each in patterns)
        if matches and is_record_file(Path(name)):
            yield name


_WILDCARDS: Final = {"**/": "(?:.*/)?", "**": ".*", "*": "[^/]*", "?": "[^/]"}


def _regex(pattern: str) -> re.Pattern[str]:
    pieces = re.split(r"(\*\*/|\*\*|\*|\?)", pattern.removeprefix("./"))
    return re.compile("".join(_WILDCARDS.get(piece, re.escape(piece)) for piece in pieces))
