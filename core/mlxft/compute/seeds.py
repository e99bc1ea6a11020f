"""Random seeds that a resume reproduces."""

from __future__ import annotations

import numpy as np


def step_seed(seed: int, step: int) -> int:
    """The seed of a step, which depends only on the run's seed and the step."""
    return int(np.random.SeedSequence((seed, step)).generate_state(1, np.uint64)[0])
