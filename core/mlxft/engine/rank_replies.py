"""What a rank reports to rank 0: lines of JSON on its standard output."""

from __future__ import annotations

import msgspec

from mlxft.errors import FailureCause


class Reply(msgspec.Struct, frozen=True, kw_only=True, tag_field="reply", tag=str.lower):
    """What every reply is."""


class Hello(Reply, frozen=True, kw_only=True):
    """The rank runs; `versions` are what its numbers depend on."""

    versions: dict[str, str]


class Memory(msgspec.Struct, frozen=True, kw_only=True):
    """Bytes that MLX uses now, and that it has used at most."""

    active: int
    peak: int


class Alive(Reply, frozen=True, kw_only=True):
    """The rank still runs; its memory is None until MLX is loaded."""

    memory: Memory | None = None


class Loaded(Reply, frozen=True, kw_only=True):
    """The model is loaded; `base` says which weights it has, `ports` are free on its machine."""

    base: dict[str, str]
    ports: list[int]


class Entered(Reply, frozen=True, kw_only=True):
    """The rank has computed its part and waits for the others in its sum of this number."""

    number: int


class Stepped(Reply, frozen=True, kw_only=True):
    """The rank has taken part in a step, of which it computed for `seconds`."""

    seconds: float
    tokens: int
    memory: Memory


class Failed(Reply, frozen=True, kw_only=True):
    """Why the rank ends, in one sentence; `by_others` if another rank was lost before."""

    message: str
    cause: FailureCause | None = None
    by_others: bool = False


AnyReply = Hello | Alive | Loaded | Entered | Stepped | Failed
