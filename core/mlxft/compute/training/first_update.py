"""Whether the first update changed the tensors that the recipe names, and no others.

Tensors are compared by sums of their bits, which take hardly any memory. Some rightly stay: a LoRA
matrix A has no gradient while B is 0 (only weight decay moves it), and experts have none that no
token was sent to.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, Final

import mlx.core as mx

from mlxft.compute.arrays import named_arrays
from mlxft.errors import RunError

_UNSIGNED: Final = {1: mx.uint8, 2: mx.uint16, 4: mx.uint32, 8: mx.uint64}
_SMALL: Final = 2**20
_FACTOR: Final = mx.array(2654435760, mx.uint32)
"""Even, so that a place's weight is odd and no bit gets lost."""

_EXPERT: Final = re.compile(r"expert|switch_mlp", re.IGNORECASE)
_NAMED: Final = 4
"""Kinds of tensors that a message names."""


@dataclass(frozen=True)
class FirstUpdate:
    """The model just before its first update, to be compared with it after."""

    bits: Mapping[str, object]
    trained: Collection[str]
    without_gradient: Collection[str]

    @classmethod
    def before(cls, model: Any, gradients: Mapping[str, mx.array]) -> FirstUpdate:
        """Remember a model and the gradients that will be applied to it, by name."""
        some = {name: each.any() for name, each in gradients.items()}
        mx.eval(some)
        zero = [name for name, each in some.items() if not each.item()]
        return cls(_bits(model), frozenset(gradients), frozenset(zero))

    def notes(self, model: Any) -> list[str]:
        """What of the trained tensors has stayed as it was, with the reason, one sentence each.

        Raises `RunError` if anything else has changed, or if something that the recipe names has
        not changed though it has a gradient.
        """
        now = _bits(model)
        changed = {name for name, each in now.items() if each != self.bits.get(name)}
        if foreign := changed - set(self.trained):
            raise RunError(
                f"The first update changed {_kinds(foreign)}, which the recipe doesn't train, "
                f"beside {_kinds(changed - foreign)}; this is a fault of the model's code or of "
                "mlxft-tui, choose another model."
            )
        still = set(self.trained) - changed
        if not changed:
            raise RunError(
                f"The first update changed nothing: {_kinds(still)} stayed as they were because "
                f"{self._reason(still)}."
            )
        awaited = still - {name for name in still if _waits_for_b(name, self.without_gradient)}
        self._refuse_still(awaited, changed, named_arrays(model.parameters()))
        return _notes(awaited, self.without_gradient)

    def _refuse_still(
        self, still: set[str], changed: set[str], arrays: Mapping[str, mx.array]
    ) -> None:
        """Raise for a kind of float32 tensors that a gradient didn't move in any block."""
        kinds = {_kind(name) for name in changed}
        stuck = {
            name
            for name in still
            if _kind(name) not in kinds
            and name not in self.without_gradient
            and arrays[name].dtype == mx.float32
        }
        if stuck:
            raise RunError(
                f"The first update changed {_kinds(changed)}, but not {_kinds(stuck)}, which the "
                "recipe trains and which has a gradient; raise learning_rate or choose another "
                "optimizer."
            )

    def _reason(self, still: set[str]) -> str:
        if still <= set(self.without_gradient):
            return "nothing of this batch has a gradient by them; choose other layers or data"
        return "the update is smaller than their type can tell apart; raise learning_rate"


def _bits(model: Any) -> dict[str, object]:
    """A sum of each array's bits, weighted by their places so that changes can't cancel."""
    # One by one, so that the copies that sums are made of never exist together.
    return {name: _sum(each).item() for name, each in named_arrays(model.parameters()).items()}


def _sum(array: mx.array) -> mx.array:
    bits = array.view(_UNSIGNED[array.dtype.size])
    if array.size > _SMALL and array.ndim > 1:
        bits = bits.sum(axis=-1)  # Nothing of a large array's size is made.
    places = mx.arange(bits.size, dtype=mx.uint32) * _FACTOR + 1
    return (bits.reshape(-1).astype(mx.uint32) * places).sum()


def _waits_for_b(name: str, without_gradient: Collection[str]) -> bool:
    return re.search(r"\.lora_a(?:\.\d+)?$", name) is not None and name in without_gradient


def _notes(still: set[str], without_gradient: Collection[str]) -> list[str]:
    experts = {name for name in still if _EXPERT.search(name) and name in without_gradient}
    without = {name for name in still if name in without_gradient} - experts
    small = still - experts - without
    reasons = (
        (experts, "no token of the first batch was sent to them"),
        (without, "nothing of the first batch has a gradient by them"),
        (small, "it is smaller than their type can tell apart; raise learning_rate to train them"),
    )
    return [
        f"The first update left {_kinds(names)} as they were because {reason}."
        for names, reason in reasons
        if names
    ]


def _kind(name: str) -> str:
    """A tensor's name without the number of its block."""
    return re.sub(r"^.*?\blayers\.\d+\.", "", name)


def _kinds(names: Collection[str]) -> str:
    """The kinds of tensors, each with the number of blocks that it is in, as a list."""
    counts: dict[str, int] = defaultdict(int)
    for name in sorted(names):
        counts[_kind(name)] += 1
    listed = [f"{kind} ({count} times)" if count > 1 else kind for kind, count in counts.items()]
    more = f" and {len(listed) - _NAMED} more kinds" if len(listed) > _NAMED else ""
    return ", ".join(listed[:_NAMED]) + more
