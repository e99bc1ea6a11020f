"""How a recipe's `data` names a dataset of the Hugging Face Hub, its part and its slices; pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from mlxft.errors import RecipeError

_NAME: Final = r"[A-Za-z0-9][\w.-]{0,95}"
_SLICE: Final = re.compile(r"([a-z_]+)(?:\[(-?\d+%?)?:(-?\d+%?)?\])?")
_DATA: Final = re.compile(
    rf"(?P<path>{_NAME}/{_NAME})(?::(?P<part>[\w.-]{{1,96}}))?(?:@(?P<slices>[^@]+))?"
)

SPLITS: Final = (
    *("train", "training", "train_sft"),
    *("valid", "validation", "val", "dev"),
    *("test", "testing", "test_sft"),
)
"""Names of splits that a dataset's files are found by."""

MLX_LM_SPLITS: Final = ("train[:80%]", "train[-10%:]")
"""What mlx-lm trains and validates on where a config's hf_dataset names no splits."""

_SPLIT_KEYS: Final = ("train_split", "valid_split", "test_split")


@dataclass(frozen=True)
class Slice:
    """Part of a split, in the notation of `datasets`: ``train[:80%]``, ``train[100:]``."""

    split: str
    start: str = ""
    stop: str = ""

    def bounds(self, records: int) -> tuple[int, int]:
        """The first record and the one after the last, of so many.

        Percentages are rounded to the nearest record, as `datasets` does by default.
        """
        return _at(self.start, records, 0), _at(self.stop, records, records)


def _at(bound: str, records: int, default: int) -> int:
    if not bound:
        return default
    percent = bound.endswith("%")
    at = round(int(bound[:-1]) * records / 100) if percent else int(bound)
    return min(records, at if at >= 0 else max(0, records + at))


@dataclass(frozen=True)
class HubData:
    """A dataset, one of its configurations, and the slices to train, validate and test on."""

    path: str
    part: str = ""
    slices: tuple[str, ...] = ()
    """None, or those of train, of valid and, optionally, of test."""

    def __str__(self) -> str:
        return f"{self.whole}@{','.join(self.slices)}" if self.slices else self.whole

    @property
    def whole(self) -> str:
        """The same dataset without slices."""
        return f"{self.path}:{self.part}" if self.part else self.path


def hub_data(text: str) -> HubData | None:
    """The dataset that a text names: ``owner/name``, ``owner/name:part``, and either with
    ``@train[:80%],train[-10%:]``. None if it names none."""
    found = _DATA.fullmatch(text)
    if found is None:
        return None
    slices = tuple(found["slices"].split(",")) if found["slices"] else ()
    if len(slices) == 1 or len(slices) > len(_SPLIT_KEYS) or not all(map(parsed_slice, slices)):
        return None
    return HubData(found["path"], found["part"] or "", slices)


def parsed_slice(text: str) -> Slice | None:
    """A slice; None if a dataset's files can't be found by its split's name."""
    found = _SLICE.fullmatch(text)
    if found is None or found[1] not in SPLITS:
        return None
    return Slice(found[1], found[2] or "", found[3] or "")


def from_mlx_lm(hub: Mapping[str, Any], fields: frozenset[str]) -> HubData:
    """mlx-lm's hf_dataset, with the splits that mlx-lm takes where it names none.

    `fields` are its keys that are kept elsewhere. Raises `RecipeError` for what can't be said here.
    """
    if hub_data(str(hub["path"])) is None:
        raise RecipeError(
            f"hf_dataset has the path {hub['path']}, which is not owner/name on the Hub; set data "
            "to it if it is a folder."
        )
    config = hub.get("config") or {}
    named = isinstance(config, Mapping) and config.keys() <= {"name"}
    given = {key: hub[key] for key in _SPLIT_KEYS if hub.get(key) is not None}
    known = {"path", "config", *_SPLIT_KEYS, *fields}
    other = [str(key) for key in hub if key not in known] + ([] if named else ["config"])
    other += [f"{key} {text}" for key, text in given.items() if not parsed_slice(str(text))]
    if other:
        raise RecipeError(
            f"hf_dataset has {', '.join(other)}, which can't be kept; remove it, or set data to "
            f"{hub['path']} alone."
        )
    train, valid = MLX_LM_SPLITS
    slices = [str(given.get("train_split", train)), str(given.get("valid_split", valid))]
    if "test_split" in given:
        slices.append(str(given["test_split"]))
    return HubData(str(hub["path"]), str(config.get("name") or ""), tuple(slices))


def to_mlx_lm(data: HubData) -> dict[str, Any]:
    """The dataset as mlx-lm's hf_dataset."""
    config = {"config": {"name": data.part}} if data.part else {}
    return {
        "path": data.path,
        **config,
        **dict(zip(_SPLIT_KEYS, data.slices, strict=False)),
    }
