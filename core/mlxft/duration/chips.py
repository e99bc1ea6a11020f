"""How fast a run should be on a chip without past runs.

A step takes its matrix products at the share of the GPU's peak that training reaches, or reading
the weights once per pass if that is longer. Bandwidths are Apple's specifications
(support.apple.com/specs, the largest version of each chip), as are peaks of M1 and M2; those of M3
and M4 are GPU cores × 128 lanes × 2 × the clock of 1.38 and 1.58 GHz. M5's are published
measurements of its neural accelerators with float16 products, per core.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Final

from mlxft.recipe import Recipe


@dataclass(frozen=True)
class Chip:
    """A chip's memory bandwidth in bytes per second, and its peak in FLOP per second.

    Training reaches between `slowest` and `fastest` of this peak.
    """

    bandwidth: float
    operations: float
    slowest: float = 0.15
    fastest: float = 0.6


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
    "M5": Chip(153.6e9, 13.8e12),
    "M5 Pro": Chip(307e9, 27.6e12),
    "M5 Max": Chip(614e9, 55.2e12),
}


@dataclass(frozen=True)
class Work:
    """A model's work per token: active parameters, those of the trained blocks and of the head,
    and of its adapter; the bytes of its weights, and how many of them DoRA takes the norm of."""

    parameters: int
    trained: int
    head: int
    weight_bytes: int
    adapter: int = 0
    normed: int = 0


NORM_OPERATIONS: Final = 30.0
"""FLOP that a CPU would do in the time of DoRA's norm of one weight, besides the product of the
adapter's matrices: 0.2 ms for 885,000 weights at 51 GFLOP/s."""

NORM_BYTES: Final = 24
"""Bytes of memory traffic of that norm, for a GPU: three times a float32 read and written."""


def chip_of(device: str) -> Chip | None:
    """The chip of a device name such as ``Apple M3 Pro``; None if it is not listed."""
    found = re.fullmatch(r"(?:Apple )?(M\d+(?: (?:Pro|Max|Ultra))?)", device.strip())
    return CHIPS.get(found[1]) if found else None


def cpu(operations: float) -> Chip:
    """A CPU of a measured speed in FLOP per second; its caches hide reading the weights."""
    return Chip(math.inf, operations, slowest=0.25, fastest=0.8)


def step_seconds(chip: Chip, work: Work, recipe: Recipe, tokens: float) -> tuple[float, float]:
    """The shortest and the longest likely time of a step of this many tokens."""
    reading = _passes(work, recipe) * work.weight_bytes / chip.bandwidth
    norms = (1 + recipe.grad_checkpoint) * work.normed * NORM_BYTES / chip.bandwidth
    operations = step_operations(work, recipe, tokens)
    shortest, longest = (
        max(operations / (share * chip.operations), reading) + norms
        for share in (chip.fastest, chip.slowest)
    )
    return shortest, longest


def step_operations(work: Work, recipe: Recipe, tokens: float) -> float:
    """FLOP of a step of this many tokens: two per parameter and pass.

    Passes are forward, backward through the trained blocks and the head, the recomputation of
    checkpointed blocks, and the weight gradients of full fine-tuning and of the adapter. DoRA also
    multiplies out and norms each adapted weight in every forward pass, whatever the tokens.
    """
    more = recipe.grad_checkpoint + (recipe.fine_tune_type == "full")
    adapter = work.adapter * (3 + recipe.grad_checkpoint)
    norms = work.normed * (1 + recipe.grad_checkpoint)
    per_token = work.parameters + work.head + work.trained * (1 + more) + adapter
    return 2.0 * tokens * per_token + norms * (2.0 * recipe.lora_parameters.rank + NORM_OPERATIONS)


def validation_operations(work: Work, tokens: float) -> float:
    """FLOP of a forward pass over this many tokens."""
    return 2.0 * tokens * work.parameters


def _passes(work: Work, recipe: Recipe) -> float:
    """How often a step reads the weights."""
    share = work.trained / max(1, work.parameters)
    return 1 + share * (1 + recipe.grad_checkpoint)
