"""Values of a recipe: read, checked against their declaration, and stepped along their scale."""

from __future__ import annotations

import math
import re
from typing import Any, Final, Literal

import msgspec

from mlxft.errors import RecipeError
from mlxft.recipe.declaration import Declared, Parameter, Tokens, refusal
from mlxft.recipe.parameters import SECTIONS, Recipe, find, keys_where
from mlxft.recipe.yaml_text import parse_yaml


def get(recipe: Recipe, key: str) -> Any:
    """The value of a dotted key."""
    section, _, name = key.rpartition(".")
    if not section:
        return getattr(recipe, name)
    return getattr(getattr(recipe, section) or SECTIONS[section](), name)


def token_settings(recipe: Recipe, *kinds: Tokens) -> dict[str, Any]:
    """The values that decide what the data is in tokens, by key; of all kinds if none is named."""

    def matches(declared: Declared) -> bool:
        return declared.changes_tokens in kinds if kinds else declared.changes_tokens is not None

    return {key: get(recipe, key) for key in keys_where(matches)}


def replace(recipe: Recipe, key: str, value: object) -> Recipe:
    """The recipe with one value changed, checked against its declaration.

    Raises `RecipeError`.
    """
    parameter = find(key)
    checked = check(parameter, value)
    section, _, name = parameter.key.rpartition(".")
    if not section:
        return msgspec.structs.replace(recipe, **{name: checked})
    nested = getattr(recipe, section) or SECTIONS[section]()
    return msgspec.structs.replace(
        recipe, **{section: msgspec.structs.replace(nested, **{name: checked})}
    )


def check(parameter: Parameter, value: object) -> Any:
    """The value in the parameter's type; text is parsed as people write it.

    Raises `RecipeError` saying what the value must be.
    """
    if isinstance(value, str):
        value = _from_text(parameter, value)
    fractional = isinstance(value, float) and not value.is_integer()
    if isinstance(value, bool) != (parameter.kind == "bool") or (
        parameter.kind == "int" and fractional
    ):
        raise _refusal(parameter, value)
    try:
        checked = msgspec.convert(value, parameter.annotation, strict=False)
    except msgspec.ValidationError:
        raise _refusal(parameter, value) from None
    if isinstance(checked, str) and not _can_be_a_path(checked):
        raise _refusal(parameter, checked)
    if parameter.declared.check:
        parameter.declared.check(checked)
    low, high = parameter.declared.minimum, parameter.declared.maximum
    if isinstance(checked, int | float) and not isinstance(checked, bool):
        finite = math.isfinite(checked)
        if (
            not finite
            or (low is not None and checked < low)
            or (high is not None and checked > high)
        ):
            raise _refusal(parameter, value)
    return checked


def _can_be_a_path(text: str) -> bool:
    """Whether the text is a valid path; most texts of a recipe are paths."""
    try:
        # Bytes of a file's name that are no UTF-8 come as surrogates; others are half a character.
        parts = text.encode(errors="surrogateescape").split(b"/")
    except UnicodeEncodeError:
        return False
    return b"\0" not in b"".join(parts) and max(map(len, parts)) < 256 and len(text) < 1024


def _refusal(parameter: Parameter, value: object) -> RecipeError:
    return refusal(parameter.key, value, parameter.rule)


_BOOLEANS: Final = {
    "true": True,
    "yes": True,
    "on": True,
    "false": False,
    "no": False,
    "off": False,
}


def _from_text(parameter: Parameter, text: str) -> object:
    text = text.strip()
    if parameter.optional and text.lower() in ("", "none", "null"):
        return None
    if parameter.kind in ("texts", "numbers"):
        return [part for part in re.split(r"[,\s]+", text.strip("[]()")) if part]
    if parameter.kind == "bool":
        return _BOOLEANS.get(text.lower(), text)
    if parameter.kind == "mapping":
        return parse_yaml(text, parameter.key)
    if parameter.annotation == int | str:
        return int(text) if re.fullmatch(r"\d{1,9}", text) else text
    if parameter.kind == "int":
        try:
            return float(text) if re.search(r"[.eE]", text) else int(text.replace("_", ""))
        except ValueError:
            return text
    return text


def step(recipe: Recipe, key: str, direction: Literal[-1, 1]) -> Recipe:
    """The recipe with one value moved a step along its scale, within its range."""
    parameter = find(key)
    value = get(recipe, parameter.key)
    if parameter.kind == "bool":
        return replace(recipe, key, not value)
    if parameter.kind == "choice":
        at = parameter.choices.index(value) + direction
        return replace(recipe, key, parameter.choices[at % len(parameter.choices)])
    if parameter.declared.step is None or isinstance(value, str):
        return recipe
    moved = _stepped(parameter.declared, float(value), direction)
    low, high = parameter.declared.minimum, parameter.declared.maximum
    bounded = min(
        max(moved, low if low is not None else moved), high if high is not None else moved
    )
    return replace(recipe, key, int(bounded) if isinstance(value, int) else bounded)


def _stepped(declared: Declared, value: float, direction: int) -> float:
    match declared.step:
        case "double":
            return value * 2 if direction > 0 else value // 2
        case "ten":
            tens = value // 10 + 1 if direction > 0 else math.ceil(value / 10) - 1
            return tens * 10
        case "tenth":
            return round(value + direction * 0.05, 10)
        case "one_two_five":
            return _one_two_five(value, direction, declared.finest)
        case _:
            return value + direction


def _one_two_five(value: float, direction: int, finest: float) -> float:
    """The next of 1, 2, 5, 10 …; the finest is followed by 0."""
    rungs = [float(f"{digit}e{power}") for power in range(-9, 7) for digit in (1, 2, 5)]
    rungs = [rung for rung in rungs if rung >= finest]
    if direction > 0:
        return next((rung for rung in rungs if rung > value * 1.0001), value)
    return next((rung for rung in reversed(rungs) if rung < value * 0.9999), 0.0)
