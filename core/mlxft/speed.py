"""How fast a training should go on an Apple chip that has no past runs to tell it.

A step's time is that of its products at the share of the GPU's peak that trainings reach, or that
of reading the weights once for each pass if that is longer. Bandwidths are Apple's specifications
(support.apple.com/specs, the largest version of each chip); peaks of M1 and M2 are Apple's own too,
those of M3 and M4 are its GPU cores × 128 lanes × 2 × the clock of 1.38 and 1.58 GHz.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from mlxft.recipe import Recipe


@dataclass(frozen=True)
class Chip:
    """A chip's memory bandwidth in bytes a second, and its GPU's float operations a second."""

    bandwidth: float
    operations: float


CHIPS: Final = {
    "M1": Chip(68.25e9, 2.6e12),
    "M1 Pro": Chip(200e9, 5.2e12),
    "M1 Max": Chip(400e9, 10.4e12),
    "M1 Ultra": Chip(800e9, 21e12),
    "M2": Chip(100e9, 3.6e12),
    "M2 Pro": Chip(200e9, 6.8e12),
    "M2 Max": Chip(400e9, 13.6e12),
    "M2 Ultra": Chip(800e9, 27.2e12),
    "M3": Chip(100e9, 3.5e12),
    "M3 Pro": Chip(150e9, 6.4e12),
    "M3 Max": Chip(400e9, 14.1e12),
    "M3 Ultra": Chip(819e9, 28.3e12),
    "M4": Chip(120e9, 4.0e12),
    "M4 Pro": Chip(273e9, 8.1e12),
    "M4 Max": Chip(546e9, 16.2e12),
}

SLOWEST_SHARE: Final = 0.2
FASTEST_SHARE: Final = 0.6
"""Shares of a chip's peak between which trainings lie; quantized weights are at the lower end."""


@dataclass(frozen=True)
class Work:
    """What a model asks of a chip for each token: its parameters, those of the trained blocks and
    of the head, each as a token passes through them, and the bytes of its weights."""

    parameters: int
    trained: int
    head: int
    weight_bytes: int


def chip_of(device: str) -> Chip | None:
    """The chip of a device's name, as ``Apple M3 Pro``; None for one that isn't listed."""
    found = re.fullmatch(r"(?:Apple )?(M\d+(?: (?:Pro|Max|Ultra))?)", device.strip())
    return CHIPS.get(found[1]) if found else None


def tokens_per_second(chip: Chip, work: Work, recipe: Recipe, row: float) -> tuple[float, float]:
    """The slowest and the fastest that is likely, for rows of `row` tokens on average."""
    tokens = recipe.batch_size * max(1.0, row)
    operations = tokens * _operations_a_token(work, recipe)
    reading = _passes(work, recipe) * work.weight_bytes / chip.bandwidth
    slowest, fastest = (
        tokens / max(operations / (share * chip.operations), reading)
        for share in (SLOWEST_SHARE, FASTEST_SHARE)
    )
    return slowest, fastest


def _operations_a_token(work: Work, recipe: Recipe) -> float:
    """Two for each parameter in each pass: forward, back through what is trained and the head,
    again for checkpoints, and for the gradients of whole layers."""
    again = recipe.grad_checkpoint + (recipe.fine_tune_type == "full")
    return 2.0 * (work.parameters + work.head + work.trained * (1 + again))


def _passes(work: Work, recipe: Recipe) -> float:
    """How often the weights are read in a step."""
    share = work.trained / max(1, work.parameters)
    return 1 + share * (1 + recipe.grad_checkpoint)
