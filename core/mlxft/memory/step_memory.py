"""What exists at once in a training step, and the corrections that measured peaks suggest."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Corrections:
    """Factors on what is estimated: activations kept for the backward pass, what the backward pass
    works on, and the loss. Weights, gradients and the optimizer's state are counted."""

    kept: float = 1.0
    worked: float = 1.0
    loss: float = 1.0

    def times(self, factor: float) -> Corrections:
        """All of them, that much larger."""
        return Corrections(
            kept=factor * self.kept, worked=factor * self.worked, loss=factor * self.loss
        )

    @property
    def parts(self) -> dict[str, float]:
        """Each factor by what it corrects, in words."""
        return {"activations": self.kept, "backward pass": self.worked, "loss": self.loss}


NONE = Corrections()


@dataclass(frozen=True, kw_only=True)
class StepMemory:
    """Bytes of a step: `counted` are weights, adapter and optimizer state.

    `kept` is what all `blocks` keep for the backward pass, `worked` what it works on in the largest
    one. Checkpointed, they keep `inputs`, and `passed` is what recomputing one takes; these are
    None otherwise. `waiting` are accumulated gradients, with which the squares of some gradients,
    `squared`, count too: without them the optimizer's `update` takes more, which also exists beside
    the gradients. So do other ranks' `messages`. `lag` is the number of blocks whose
    gradients exist before the first one's activations are freed, `loss_overlap` the share of the
    loss that still exists in the backward pass.
    """

    counted: int
    kept: float
    worked: float
    loss: float
    inputs: float | None
    passed: float | None
    trained: int
    waiting: int
    squared: float
    messages: int
    update: float
    blocks: int
    lag: float
    loss_overlap: float

    def held(self, by: Corrections = NONE) -> float:
        """Activations and logits at the start of the backward pass."""
        loss = by.loss * self.loss
        everything = by.kept * self.kept + _together(
            loss, by.worked * self.worked, self.loss_overlap
        )
        if self.inputs is None or self.passed is None:
            return everything
        passed = _together(loss, by.worked * self.passed, self.loss_overlap)
        return min(everything, by.kept * self.inputs + passed)

    def with_gradients(self, by: Corrections = NONE) -> float:
        """The same with gradients, which grow by a block while what that block kept is freed; or
        the gradients with the optimizer's update, if that is more."""
        share = 1 / max(1, self.blocks)
        begin = self.held(by) + min(1.0, self.lag * share) * self.trained
        last = by.worked * self.worked + share * by.kept * self.kept
        if self.inputs is not None and self.passed is not None:
            last = min(last, by.worked * self.passed + share * by.kept * self.inputs)
        summing = self.trained + self.messages
        backward = self.waiting + max(begin, last + self.trained + self.squared, summing)
        return max(backward, self.trained + self.update)

    def peak(self, by: Corrections = NONE) -> float:
        """The peak that MLX will report."""
        return self.counted + self.with_gradients(by)


def _together(a: float, b: float, overlap: float) -> float:
    return max(a, b) + overlap * min(a, b)
