"""Sampling settings: names, help, limits, and conversion from and to text."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from mlxft.conversation.messages import Sampling
from mlxft.errors import ModelError

MOST_STOPS: Final = 16
"""The most stop strings an answer may have."""


@dataclass(frozen=True)
class Setting:
    """A field of `Sampling` with its help, parser and formatter."""

    name: str
    help: str
    read: Callable[[str], Any]
    write: Callable[[Any], str]


def _stops(text: str) -> tuple[str, ...]:
    """Stop strings separated by spaces; ``\\n`` is a newline, ``\\s`` a space."""
    words = text.split()
    return tuple(word.replace("\\n", "\n").replace("\\s", " ") for word in words)


def stops_text(stops: tuple[str, ...]) -> str:
    """Stop strings in the form that `_stops` parses."""
    return " ".join(stop.replace("\n", "\\n").replace(" ", "\\s") for stop in stops)


def _number(value: float) -> str:
    return f"{value:g}"


SETTINGS: Final = (
    Setting("temperature", "0 always takes the most likely token", float, _number),
    Setting("top_p", "most likely tokens up to this total share", float, _number),
    Setting("top_k", "this many most likely tokens; 0 keeps all", int, str),
    Setting("min_p", "drops all below this share of the best", float, _number),
    Setting("repetition_penalty", "above 1 makes repetition less likely", float, _number),
    Setting("seed", "same seed, same answer", int, str),
    Setting("max_tokens", "maximum length of an answer", int, str),
    Setting("stop", "texts that end the answer; \\n newline, \\s space", _stops, stops_text),
)


def check_sampling(sampling: Sampling, vocabulary: int | None = None) -> None:
    """Raise `ModelError` for a value out of range.

    MLX must not get to see it: an error inside a compiled sampler corrupts the thread's random
    state. `vocabulary` is the model's vocabulary size, if known.
    """
    most = vocabulary - 1 if vocabulary else 2**31
    stop = sampling.stop
    rules = (
        ("temperature", 0 <= sampling.temperature <= 100, "from 0 to 100"),
        ("top_p", 0 < sampling.top_p <= 1, "above 0 and at most 1"),
        ("top_k", 0 <= sampling.top_k <= most, f"from 0 to {most}"),
        ("min_p", 0 <= sampling.min_p <= 1, "from 0 to 1"),
        ("repetition_penalty", 0 < sampling.repetition_penalty < math.inf, "above 0"),
        ("max_tokens", sampling.max_tokens >= 1, "at least 1"),
        ("seed", 0 <= sampling.seed < 2**64, f"a whole number from 0 to {2**64 - 1}"),
        ("stop", len(stop) <= MOST_STOPS and all(stop), f"at most {MOST_STOPS} texts, none empty"),
    )
    for name, valid, rule in rules:
        if not valid:
            raise ModelError(f"{name} is {getattr(sampling, name)}; it must be {rule}.")


def with_setting(sampling: Sampling, setting: Setting, text: str) -> Sampling:
    """The sampling with a setting parsed from text. Raises `ModelError`."""
    try:
        value = setting.read(text.strip())
    except ValueError:
        kind = "a whole number" if setting.read is int else "a number"
        raise ModelError(
            f"{setting.name} is {text.strip() or 'empty'}; it must be {kind}."
        ) from None
    changed: Sampling = msgspec.structs.replace(sampling, **{setting.name: value})
    check_sampling(changed)
    return changed
