"""How the next token is drawn: what each setting may be, and how a person writes it."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from mlxft.conversation.messages import Sampling
from mlxft.errors import ModelError

MOST_STOPS: Final = 16
"""Stop strings that one answer may have."""


@dataclass(frozen=True)
class Setting:
    """A field of `Sampling`: its name, what it does, and how it is read and written."""

    name: str
    help: str
    read: Callable[[str], Any]
    write: Callable[[Any], str]


def _stops(text: str) -> tuple[str, ...]:
    """Stop strings parted by blanks; ``\\n`` and ``\\s`` stand for a line's end and a blank."""
    words = text.split()
    return tuple(word.replace("\\n", "\n").replace("\\s", " ") for word in words)


def stops_text(stops: tuple[str, ...]) -> str:
    """Stop strings as a person writes them."""
    return " ".join(stop.replace("\n", "\\n").replace(" ", "\\s") for stop in stops)


def _number(value: float) -> str:
    return f"{value:g}"


SETTINGS: Final = (
    Setting("temperature", "0 always takes the likeliest token", float, _number),
    Setting("top_p", "likeliest tokens that make up this share", float, _number),
    Setting("top_k", "this many likeliest tokens; 0 is all", int, str),
    Setting("min_p", "none below this share of the likeliest", float, _number),
    Setting("repetition_penalty", "above 1 makes repetition less likely", float, _number),
    Setting("seed", "decides the draw", int, str),
    Setting("max_tokens", "longest answer", int, str),
    Setting("stop", "texts that end it; \\n is a line's end, \\s a blank", _stops, stops_text),
)


def check_sampling(sampling: Sampling, vocabulary: int | None = None) -> None:
    """Raises `ModelError` for a value that the sampler refuses.

    It must be found before MLX sees it: inside a compiled sampler it would spoil the thread's
    random state. `vocabulary` is the model's number of tokens, where it is known.
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
    for name, fine, rule in rules:
        if not fine:
            raise ModelError(f"{name} is {getattr(sampling, name)}; it must be {rule}.")


def with_setting(sampling: Sampling, setting: Setting, text: str) -> Sampling:
    """The sampling with one setting as a person wrote it. Raises `ModelError`."""
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
