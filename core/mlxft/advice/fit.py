"""The changes that make a recipe fit into memory, the mildest first."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

from mlxft import recipe as recipes
from mlxft.advice.types import Advice, Need, gigabytes, shown
from mlxft.recipe import PARAMETERS, Recipe

USUAL_BLOCKS: Final = 32
"""Blocks of a model whose shapes aren't known."""


@dataclass(frozen=True)
class Saving:
    """A change of the recipe, and the bytes that it saves after those before it."""

    key: str
    value: Any
    saved: int


def reduction(recipe: Recipe, need: Callable[[Recipe], Need], blocks: int, evidence: str) -> Advice:
    """The smallest change that fits, tried in the order of what it costs the result."""
    for key, value in reductions(recipe, blocks):
        smaller = need(recipes.replace(recipe, key, value))
        if smaller.verdict != "wont_fit":
            return Advice(
                "memory",
                f"It will not fit; with {key} {shown(value)} it takes "
                f"{gigabytes(smaller.total)} GB.",
                evidence,
                (key, value),
            )
    fitted, savings = fit(recipe, need, blocks)
    if fitted is None:
        return Advice(
            "memory",
            "It will not fit even at its smallest: choose a smaller or more "
            "strongly quantized model.",
            evidence,
        )
    listed = ", ".join(f"{each.key} {shown(each.value)}" for each in savings)
    return Advice(
        "memory",
        f"It will not fit; with {listed} together it does.",
        evidence,
        (savings[0].key, savings[0].value),
    )


def fit(
    recipe: Recipe,
    need: Callable[[Recipe], Need],
    blocks: int = USUAL_BLOCKS,
    train_records: int | None = None,
) -> tuple[Recipe | None, list[Saving]]:
    """A recipe that fits and keeps most of what was asked, and what each change saves.

    Begins with a batch of no more than all records, since a larger one is refused. Reduced in the
    order of what it costs the result (checkpointing costs only time) until it fits; then whatever
    was reduced more than needed is given back. None where even the smallest is too large.
    """
    possible = recipe
    if train_records and recipe.batch_size > train_records:
        possible = recipes.replace(recipe, "batch_size", train_records)
    fitted = possible
    ways = list(reductions(possible, blocks))
    for key, value in ways:
        if need(fitted).verdict != "wont_fit":
            break
        fitted = recipes.replace(fitted, key, value)
    if need(fitted).verdict == "wont_fit":
        return None, []
    fitted = _given_back(possible, fitted, need, ways)
    capped = [("batch_size", possible.batch_size)] if possible != recipe else []
    return fitted, _savings(recipe, fitted, need, [*capped, *ways])


def _given_back(
    asked: Recipe,
    fitted: Recipe,
    need: Callable[[Recipe], Need],
    reductions: Sequence[tuple[str, Any]],
) -> Recipe:
    """The recipe with each reduced value as near to what was asked as fits."""
    for key in dict.fromkeys(key for key, _ in reductions):
        milder = [recipes.get(asked, key), *(value for each, value in reductions if each == key)]
        for value in milder:
            candidate = recipes.replace(fitted, key, value)
            if value == recipes.get(fitted, key) or need(candidate).verdict != "wont_fit":
                fitted = candidate
                break
    return fitted


def _savings(
    asked: Recipe,
    fitted: Recipe,
    need: Callable[[Recipe], Need],
    reductions: Sequence[tuple[str, Any]],
) -> list[Saving]:
    """Each change in the order in which it was tried."""
    savings = []
    for key in dict.fromkeys(key for key, _ in reductions):
        value = recipes.get(fitted, key)
        if value != recipes.get(asked, key):
            changed = recipes.replace(asked, key, value)
            savings.append(Saving(key, value, need(asked).total - need(changed).total))
            asked = changed
    return savings


def reductions(recipe: Recipe, blocks: int = USUAL_BLOCKS) -> Iterator[tuple[str, Any]]:
    """Changes that need less memory, the mildest parameter first and each one's in falling order.

    Which parameters may be lowered, and how far, is part of their declaration.
    """
    declared = [
        (parameter.key, parameter.declared.reduction)
        for parameter in PARAMETERS.values()
        if parameter.declared.reduction
    ]
    for key, reduction in sorted(declared, key=lambda each: each[1].order):
        value = recipes.get(recipe, key)
        if key == "num_layers":
            value = min(value, blocks) if value > 0 else blocks
        if reduction.smallest is not None:
            yield from ((key, each) for each in _halves(value, reduction.smallest))
        elif value in reduction.instead:
            yield key, reduction.instead[value]


def _halves(value: int, smallest: int) -> Iterator[int]:
    while value // 2 >= smallest:
        value //= 2
        yield value
