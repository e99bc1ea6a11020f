"""What a model's config.json says about the records that it can take."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_POSITIONS: Final = ("max_position_embeddings", "n_positions", "max_seq_len", "n_ctx")


@dataclass(frozen=True)
class ModelLimits:
    """Tokens that the model has an embedding for, and the longest input it was made for.

    None where config.json doesn't say.
    """

    vocabulary: int | None = None
    positions: int | None = None


def limits_of(folder: Path) -> ModelLimits:
    """The limits of the model in a folder."""
    try:
        config = json.loads((folder / "config.json").read_bytes())
        parts = [config, config.get("text_config") or {}]
        found = [(_count(part, "vocab_size"), _count(part, *_POSITIONS)) for part in parts]
    except (OSError, ValueError, AttributeError):
        return ModelLimits()
    (vocabulary, positions), (inner_vocabulary, inner_positions) = found
    return ModelLimits(inner_vocabulary or vocabulary, inner_positions or positions)


def _count(config: dict[str, object], *names: str) -> int | None:
    values = (config.get(name) for name in names)
    return next((each for each in values if isinstance(each, int) and each > 0), None)
