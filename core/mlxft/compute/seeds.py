"""Seeds of random numbers that a resume repeats."""

from __future__ import annotations

import numpy as np


def step_seed(seed: int, step: int) -> int:
    """The seed of a step's random numbers, a function of the run's seed and the step alone."""
    return int(np.random.SeedSequence((seed, step)).generate_state(1, np.uint64)[0])
