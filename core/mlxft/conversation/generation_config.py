"""How a model's makers advise to sample, from its folder."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from mlxft.conversation.messages import Sampling


def advised_sampling(folder: Path) -> Sampling:
    """The sampling of generation_config.json; greedy where there is none, or where it says so."""
    advised = _read(folder / "generation_config.json")
    if not advised.get("do_sample"):
        return Sampling(repetition_penalty=_number(advised, "repetition_penalty", 1.0))
    return Sampling(
        temperature=_number(advised, "temperature", 1.0),
        top_p=_number(advised, "top_p", 1.0),
        top_k=int(_number(advised, "top_k", 0)),
        min_p=_number(advised, "min_p", 0.0),
        repetition_penalty=_number(advised, "repetition_penalty", 1.0),
    )


def _number(advised: dict[str, Any], key: str, default: float) -> float:
    value = advised.get(key)
    return value if isinstance(value, int | float) and not isinstance(value, bool) else default


def _read(file: Path) -> dict[str, Any]:
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
