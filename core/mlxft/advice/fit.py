"""The changes that make a recipe fit into memory, the mildest first."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

from mlxft import recipe as recipes
from mlxft.advice.types import Advice, EstimateMemory, gigabytes, shown
from mlxft.recipe import PARAMETERS, Recipe

USUAL_BLOCKS: Final = 32
"""Transformer blocks of a model whose shapes aren't known."""


@dataclass(frozen=True)
class Saving:
    """A change of the recipe, and the bytes that it saves on top of those before it."""

    key: str
    value: Any
    saved: int


def smallest_change(recipe: Recipe, estimate: EstimateMemory, blocks: int, evidence: str) -> Advice:
    """The single mildest change that fits, or else the first of several."""
    for key, value in reductions(recipe, blocks):
        smaller = estimate(recipes.replace(recipe, key, value))
        if smaller.verdict != "wont_fit":
            return Advice(
                "memory",
                f"It won't fit; with {key} {shown(value)} it takes {gigabytes(smaller.total)} GB.",
                evidence,
                (key, value),
            )
    fitted, savings = fit(recipe, estimate, blocks)
    if fitted is None:
        return Advice(
            "memory",
            "It won't fit even at its smallest: choose a smaller or more strongly quantized model.",
            evidence,
        )
    listed = ", ".join(f"{each.key} {shown(each.value)}" for each in savings)
    return Advice(
        "memory",
        f"It won't fit; together {listed} make it fit.",
        evidence,
        (savings[0].key, savings[0].value),
    )


def fit(
    recipe: Recipe,
    estimate: EstimateMemory,
    blocks: int = USUAL_BLOCKS,
    train_records: int | None = None,
) -> tuple[Recipe | None, list[Saving]]:
    """A recipe that fits and changes as little as possible, and what each change saves.

    A batch larger than the training set would be refused, so it is lowered first. Then parameters
    are reduced in the order of what they cost the result until the recipe fits, and raised again
    as far as there is memory. None if even the smallest recipe is too large.
    """
    possible = recipe
    if train_records and recipe.batch_size > train_records:
        possible = recipes.replace(recipe, "batch_size", train_records)
    fitted = possible
    steps = list(reductions(possible, blocks))
    for key, value in steps:
        if estimate(fitted).verdict != "wont_fit":
            break
        fitted = recipes.replace(fitted, key, value)
    if estimate(fitted).verdict == "wont_fit":
        return None, []
    fitted = _raised(possible, fitted, estimate, steps)
    capped = [("batch_size", possible.batch_size)] if possible != recipe else []
    return fitted, _savings(recipe, fitted, estimate, [*capped, *steps])


def _raised(
    wanted: Recipe,
    fitted: Recipe,
    estimate: EstimateMemory,
    reductions: Sequence[tuple[str, Any]],
) -> Recipe:
    """The recipe with each reduced value as close to the wanted one as fits."""
    for key in dict.fromkeys(key for key, _ in reductions):
        milder = [recipes.get(wanted, key), *(value for each, value in reductions if each == key)]
        for value in milder:
            candidate = recipes.replace(fitted, key, value)
            if value == recipes.get(fitted, key) or estimate(candidate).verdict != "wont_fit":
                fitted = candidate
                break
    return fitted


def _savings(
    wanted: Recipe,
    fitted: Recipe,
    estimate: EstimateMemory,
    reductions: Sequence[tuple[str, Any]],
) -> list[Saving]:
    """Each change, in the order in which it was tried."""
    savings = []
    for key in dict.fromkeys(key for key, _ in reductions):
        value = recipes.get(fitted, key)
        if value != recipes.get(wanted, key):
            changed = recipes.replace(wanted, key, value)
            saved = estimate(wanted).total - estimate(changed).total
            savings.append(Saving(key, value, saved))
            wanted = changed
    return savings


def reductions(recipe: Recipe, blocks: int = USUAL_BLOCKS) -> Iterator[tuple[str, Any]]:
    """Changes that need less memory: the mildest parameter first, each one's in falling order.

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
