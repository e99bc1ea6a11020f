"""How much memory a training needs, from the model's shapes and the recipe alone.

A step peaks at the start of its backward pass, when the weights, all that the trained blocks keep
for their gradients and several copies of the logits are there at once; or else in the optimizer's
update, when what is trained is there twice. Counts follow from the shapes; the few constants of
each backend (how many copies, how far it computes ahead) are fitted to peaks that
``benchmarks/memory_estimate.py`` measures.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Final, Literal

from mlxft.memory.blocks import Block, Matrix
from mlxft.memory.shapes import ModelShapes
from mlxft.recipe import Recipe

Kind = Literal["metal", "cuda", "cpu"]
Verdict = Literal["fits", "tight", "wont_fit", "unknown"]

TIGHT_SHARE: Final = 0.85
"""Above this share of the limit a run is called tight: other programs want memory too."""

UNFUSED_SCORES: Final = 4.0
"""Copies of the scores of an attention that is written out, as Gemma 2's with its soft cap."""

_ADAPTER_BYTES: Final = 4
"""Adapters are float32 whatever the model is."""


@dataclass(frozen=True)
class Backend:
    """The constants of a backend.

    `logits_copies` and `mlp_copies` are arrays of that size alive at once, `scores_copies` of the
    attention's scores, `ahead` and `ahead_checkpointed` are how many blocks' work is held beyond
    what is kept, `slack` the share by which freed buffers that wait for reuse exceed the peak, and
    `base` the process itself, in bytes.
    """

    logits_copies: float
    mlp_copies: float
    scores_copies: float
    ahead: float
    ahead_checkpointed: float
    slack: float
    base: int


BACKENDS: Final[dict[Kind, Backend]] = {
    "cpu": Backend(4.0, 5.0, 1.0, 1.2, 2.0, 0.05, 350_000_000),
    "metal": Backend(4.0, 5.0, 0.0, 1.2, 2.0, 0.05, 350_000_000),
    "cuda": Backend(4.0, 5.0, 0.0, 1.2, 2.0, 0.05, 500_000_000),
}

_OVERLAP: Final = 0.5
"""Gradients grow while activations are freed: so much of the smaller is there with the larger."""

_UPDATE_COPIES: Final[dict[str, float]] = {
    "adam": 2.4,
    "adamw": 2.4,
    "sgd": 0.4,
    "muon": 1.65,
    "adafactor": 0.4,
}
"""New weights and state beside the old ones in an update, in sizes of what is trained."""


@dataclass(frozen=True)
class MemoryEstimate:
    """Bytes by part, in the order a bar stacks them; `limit` is None where it is not known.

    `sure` is False for a family of models that is not listed.
    """

    weights: int
    adapter: int
    gradients: int
    optimizer: int
    activations: int
    loss: int
    cache: int
    base: int
    limit: int | None
    sure: bool

    @property
    def parts(self) -> dict[str, int]:
        """Each part by name, in order."""
        return {
            "weights": self.weights,
            "adapter": self.adapter,
            "gradients": self.gradients,
            "optimizer": self.optimizer,
            "activations": self.activations,
            "loss": self.loss,
            "cache": self.cache,
            "base": self.base,
        }

    @property
    def total(self) -> int:
        """What the training takes from the machine."""
        return self.peak + self.cache + self.base

    @property
    def peak(self) -> int:
        """What MLX will report as its peak."""
        return (
            self.weights
            + self.adapter
            + self.gradients
            + self.optimizer
            + self.activations
            + self.loss
        )

    @property
    def verdict(self) -> Verdict:
        """Whether the training fits under the limit."""
        if self.limit is None:
            return "unknown"
        if self.total > self.limit:
            return "wont_fit"
        return "tight" if self.total > TIGHT_SHARE * self.limit else "fits"


def estimate(
    shapes: ModelShapes,
    recipe: Recipe,
    backend: Kind,
    limit: int | None,
    longest: int | None = None,
    correction: float = 1.0,
) -> MemoryEstimate:
    """The memory of a training on a backend.

    `longest` is the longest row in tokens where the data is known; rows are never longer than the
    recipe's max_seq_length. `correction` scales what is not weights, as learnt from earlier runs.
    """
    constants = BACKENDS[backend]
    length = recipe.max_seq_length if longest is None else min(longest, recipe.max_seq_length)
    work = _Work(shapes, recipe, constants, 4 if backend == "cpu" else shapes.dtype_bytes, length)
    weights = shapes.parameters * 4 if backend == "cpu" else shapes.stored_bytes
    activations, loss = correction * work.activations, correction * work.loss
    return MemoryEstimate(
        weights=weights,
        adapter=work.adapter,
        gradients=round(work.gradients(activations + loss)),
        optimizer=work.optimizer,
        activations=round(activations),
        loss=round(loss),
        cache=round(constants.slack * (activations + loss)),
        base=constants.base,
        limit=limit,
        sure=shapes.sure,
    )


def adapter_parameters(blocks: Sequence[Block], recipe: Recipe) -> int:
    """Parameters of the adapter on these blocks; none in full fine-tuning.

    As ``mlx_lm.tuner.utils.linear_to_lora_layers``: every linear layer, or those named in keys.
    """
    if recipe.fine_tune_type == "full":
        return 0
    rank, dora = recipe.lora_parameters.rank, recipe.fine_tune_type == "dora"
    return sum(
        each.experts * (rank * (each.inputs + each.outputs) + dora * each.outputs)
        for each in _adapted(blocks, recipe)
    )


def _adapted(blocks: Sequence[Block], recipe: Recipe) -> list[Matrix]:
    keys = recipe.lora_parameters.keys
    matrices = (each for block in blocks for each in block.matrices)
    return [each for each in matrices if keys is None or each.name in keys]


class _Work:
    """The bytes of a step, part by part."""

    def __init__(
        self,
        shapes: ModelShapes,
        recipe: Recipe,
        constants: Backend,
        value_bytes: int,
        length: int,
    ) -> None:
        self._shapes, self._recipe, self._constants = shapes, recipe, constants
        self._value_bytes, self._length = value_bytes, length
        self._tokens = recipe.batch_size * max(1, length - 1)
        self._trained = shapes.trained_blocks(recipe.num_layers)

    @cached_property
    def adapter(self) -> int:
        return adapter_parameters(self._trained, self._recipe) * _ADAPTER_BYTES

    @cached_property
    def trained(self) -> int:
        """What gradients and optimizer follow: the adapter, or the trained blocks themselves."""
        parameters = sum(each.parameters for each in self._trained)
        return self.adapter or parameters * self._value_bytes

    @property
    def loss(self) -> float:
        """The logits, as often as the loss and its gradient hold them."""
        values = self._tokens * self._shapes.vocabulary
        return self._constants.logits_copies * values * self._value_bytes

    @property
    def activations(self) -> float:
        """What the trained blocks keep for the backward pass, and the blocks being worked on."""
        each = [self._block(block) for block in self._trained]
        largest = max(each, default=0.0)
        if self._recipe.grad_checkpoint:
            kept = len(each) * self._tokens * self._shapes.hidden * self._value_bytes
            return kept + self._constants.ahead_checkpointed * largest
        return sum(each) + self._constants.ahead * largest

    def _block(self, block: Block) -> float:
        """A block's norms, matrices and scores; DoRA also keeps each matrix's result."""
        constants = self._constants
        scores = constants.scores_copies if block.fused_attention else UNFUSED_SCORES
        values = (
            4 * self._shapes.hidden
            + block.attention_width
            + constants.mlp_copies * block.mlp_width
            + scores * block.heads * self._length
        )
        if self._recipe.fine_tune_type == "dora":
            adapted = _adapted([block], self._recipe)
            values += sum(each.active * each.outputs for each in adapted)
        return self._tokens * values * self._value_bytes

    @property
    def optimizer(self) -> int:
        """Adam keeps two values a weight, SGD and Muon one, Adafactor one a row and a column."""
        match self._recipe.optimizer:
            case "adam" | "adamw":
                return 2 * self.trained
            case "sgd" | "muon":
                return self.trained
            case "adafactor":
                return self._factored

    @property
    def _factored(self) -> int:
        if self._recipe.fine_tune_type == "full":
            matrices = [each for block in self._trained for each in block.matrices]
            sides = sum(each.experts * (each.inputs + each.outputs) for each in matrices)
            return sides * self._value_bytes
        rank = self._recipe.lora_parameters.rank
        adapted = _adapted(self._trained, self._recipe)
        sides = sum(each.experts * (each.inputs + each.outputs + 2 * rank) for each in adapted)
        return sides * _ADAPTER_BYTES

    def gradients(self, held: float) -> float:
        """Gradients beside the activations and logits held, or an update that exceeds them."""
        waiting = self.trained if self._recipe.grad_accumulation_steps > 1 else 0
        overlap = _OVERLAP * min(held, self.trained)
        backward = waiting + max(held, self.trained) + overlap
        update = self.trained * (1 + _UPDATE_COPIES[self._recipe.optimizer])
        return max(backward, update) - held
