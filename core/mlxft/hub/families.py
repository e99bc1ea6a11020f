"""Which model families mlx-lm has, read from its files: importing it would load MLX."""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any, Final

UNTRAINED: Final[dict[str, str]] = {
    "bitnet": "no layer of it can take an adapter",
    "deepseek_v41": "mlx-lm's code of it passes no gradients",
    "recurrent_gemma": "mlx-lm's code of it can't be trained",
}
"""Families that mlx-lm runs but can't train, as docs/families.json has found."""

_READ_METHODS: Final = frozenset(
    ("bitnet", "mxfp4", "mxfp8", "fp8", "compressed-tensors", "modelopt", "awq", "gptq")
)
"""Quantizations of other tools that mlx-lm reads."""


def refused_family(config: Mapping[str, Any]) -> str:
    """Why a model with this config.json can't be trained, or empty."""
    family = config.get("model_type")
    if not isinstance(family, str) or not family:
        return "its config.json has no model_type"
    own, others = _families()
    family = others.get(family, family)
    if family in UNTRAINED:
        return f"{family}: {UNTRAINED[family]}"
    if own and family not in own and "model_file" not in config:
        return f"mlx-lm doesn't know the family {family}"
    quantized = config.get("quantization_config")
    method = quantized.get("quant_method") if isinstance(quantized, Mapping) else None
    if method and "quantization" not in config and method not in _READ_METHODS:
        return f"mlx-lm doesn't read {method} weights"
    return ""


@cache
def _families() -> tuple[frozenset[str], Mapping[str, str]]:
    """The families that mlx-lm has code for, and other names of some; empty if it isn't found."""
    found = importlib.util.find_spec("mlx_lm")
    if found is None or found.origin is None:
        return frozenset(), {}
    package = Path(found.origin).parent
    own = frozenset(each.stem for each in (package / "models").glob("*.py"))
    return own, _other_names(package / "utils.py")


def _other_names(source: Path) -> Mapping[str, str]:
    try:
        text = source.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return {}
    # Not by ast: CPython 3.11 fails where two threads parse at once.
    found = _REMAPPING.search(text)
    return dict(_PAIR.findall(found[1])) if found else {}


_REMAPPING: Final = re.compile(r"^MODEL_REMAPPING\b[^{\n]*\{([^}]*)\}", re.MULTILINE)
_PAIR: Final = re.compile(r'"([^"]+)"\s*:\s*"([^"]+)"')
