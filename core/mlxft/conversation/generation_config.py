"""The sampling recommended in a model's generation_config.json."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from mlxft.conversation.messages import Sampling


def recommended_sampling(folder: Path) -> Sampling:
    """The sampling from generation_config.json; greedy without one or if it says so."""
    config = _read(folder / "generation_config.json")
    if not config.get("do_sample"):
        return Sampling(repetition_penalty=_number(config, "repetition_penalty", 1.0))
    return Sampling(
        temperature=_number(config, "temperature", 1.0),
        top_p=_number(config, "top_p", 1.0),
        top_k=int(_number(config, "top_k", 0)),
        min_p=_number(config, "min_p", 0.0),
        repetition_penalty=_number(config, "repetition_penalty", 1.0),
    )


def _number(config: dict[str, Any], key: str, default: float) -> float:
    value = config.get(key)
    return value if isinstance(value, int | float) and not isinstance(value, bool) else default


def _read(file: Path) -> dict[str, Any]:
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
