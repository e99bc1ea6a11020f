"""Models of random weights.

This file needs nothing else of its package, whose import changes what MLX reads at its start:
benchmarks of other trainers run it alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import mlx.core as mx
from mlx.nn.layers.quantized import quantize
from mlx_lm.utils import _get_classes


def random_model(config: Mapping[str, Any], dtype: str) -> Any:
    """A model of a config.json with random weights of this type, quantized as it says, evaluated.

    The same config gives the same weights.
    """
    model_class, arguments = _get_classes(dict(config))
    mx.random.seed(0)
    model = model_class(arguments.from_dict(dict(config)))
    model.set_dtype(getattr(mx, dtype))
    if quantization := config.get("quantization"):
        quantize(model, **quantization)
    mx.eval(model.parameters())
    return model
