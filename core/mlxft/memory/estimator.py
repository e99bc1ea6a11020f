"""How much memory a training needs, from the model's shapes and the recipe alone.

A step peaks at the start of its backward pass, when the weights, all that the trained blocks keep
for their gradients and several copies of a chunk of logits are there at once; or else in the
optimizer's update, when what is trained is there twice. Counts follow from the shapes; the few
constants of each backend (how many copies, how far it computes ahead) are fitted to peaks that
``benchmarks/estimator.py`` measures.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import accumulate
from typing import Final, Literal

from mlxft.memory.blocks import Block, Matrix, Recurrence
from mlxft.memory.shapes import ModelShapes
from mlxft.recipe import Recipe

Kind = Literal["metal", "cuda", "cpu"]
Verdict = Literal["fits", "tight", "wont_fit", "unknown"]

CHUNK_LOGITS: Final[dict[Kind, int]] = {"cpu": 2**23, "metal": 2**26, "cuda": 2**26}
"""Logits that the loss makes at once, as the trainer's own chunks have them."""

SMALLEST_CHUNK: Final = 128
"""Positions that a chunk has at least."""

ATTENTION_BLOCK: Final = 128
"""Queries whose scores a CPU's attention makes at once, as the trainer's own has them."""

TIGHT_SHARE: Final = 0.85
"""Above this share of the limit a run is called tight: other programs want memory too."""


@dataclass(frozen=True)
class Constants:
    """The constants of a backend.

    `logits` is how many copies of them a chunk of the loss holds, `scores` how many copies of a
    block's an attention that keeps none makes; `masked` and `unfused` are how many scores an
    attention between packed records keeps, and one that is written out, as Gemma 2's with its soft
    cap; `scoring` how many come on top while the backward pass is at an attention that keeps any;
    `ahead` and `ahead_checkpointed` how many blocks' work beside what they keep, `update` the new
    weights and state beside the old ones in the optimizer's update, in sizes of what is trained;
    `overlap` is, of two things that follow each other, the share of the smaller that is there with
    the larger: gradients grow while activations are freed, the first block is worked on while the
    logits are freed. `cache` is the share by which freed buffers exceed the peak, and `base` the
    process itself in bytes.
    """

    logits: float
    scores: float
    masked: float
    unfused: float
    scoring: float
    ahead: float
    ahead_checkpointed: float
    update: float
    overlap: float
    cache: float
    base: int


_GPU: Final = Constants(
    logits=2.718,
    scores=0.0,
    masked=0.681,
    unfused=2.848,
    scoring=1.122,
    ahead=0.154,
    ahead_checkpointed=2.163,
    update=1.167,
    overlap=0.078,
    cache=0.1,
    base=200_000_000,
)

CONSTANTS: Final[dict[Kind, Constants]] = {
    "cpu": Constants(
        logits=1.086,
        scores=0.845,
        masked=0.0,
        unfused=0.867,
        scoring=0.31,
        ahead=1.154,
        ahead_checkpointed=2.85,
        update=0.375,
        overlap=0.465,
        cache=0.0,
        base=150_000_000,
    ),
    "metal": _GPU,
    # NVIDIA's base is the context that CUDA keeps on the device.
    "cuda": replace(_GPU, base=500_000_000),
}

MUON_UPDATE: Final = 0.3
"""What Muon's orthogonalization adds to an update."""

_STATE_BYTES: Final = 4
"""A recurrence's state is float32 too."""

_STATES_KEPT: Final = 2
"""Of each token's state: as it was handed on with its decay, and with what the token wrote."""

_STATES_TURNED: Final = 4
"""The same with their gradients, when the pass has gone back to the first token."""

_READS_TURNED: Final = 0.125
"""The share of tokens whose gradients, each as large as all that is read, wait then for their sum.

They do in the first trained block only: its input gets no gradient that asks for the sums earlier.
"""

_ROUTED_WORKED: Final = 2.0
"""Of a checkpointed block's experts: what they keep and its gradients, one expert's matrix after
the other."""

_ADAPTER_BYTES: Final = 4
"""Adapters are float32 whatever the model is."""


@dataclass(frozen=True)
class MemoryEstimate:
    """Bytes by part, in the order a bar stacks them; `limit` is None where it is not known.

    `sure` is False for a family of models that is not listed. `correction` is the factor that this
    machine's finished runs have put on activations and loss, 1 without any.
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
    correction: float = 1.0

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
    constants: Constants | None = None,
) -> MemoryEstimate:
    """The memory of a training on a backend.

    `longest` is the longest row in tokens, padding included, where the data is known; rows are
    never longer than the recipe's max_seq_length. `correction` scales what is not weights, as
    learnt from earlier runs.
    `constants` are the backend's own unless given.
    """
    constants = constants or CONSTANTS[backend]
    work = _Work(shapes, recipe, backend, constants, _row_length(recipe, longest))
    weights = shapes.parameters * 4 if backend == "cpu" else shapes.stored_bytes
    # Whole bytes of sums, and parts as their differences: so no rounding makes more need less.
    loss, held = int(correction * work.loss), int(correction * work.held)
    return MemoryEstimate(
        weights=weights,
        adapter=work.adapter,
        gradients=int(work.beside_weights(held)) - held,
        optimizer=work.optimizer,
        activations=held - loss,
        loss=loss,
        cache=int(constants.cache * held),
        base=constants.base,
        limit=limit,
        sure=shapes.sure,
        correction=correction,
    )


def _row_length(recipe: Recipe, longest: int | None) -> int:
    """The tokens of the longest row; packed ones are filled."""
    if longest is None or recipe.packing:
        return recipe.max_seq_length
    return min(longest, recipe.max_seq_length)


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
    return [each for each in matrices if each.adaptable and (keys is None or each.name in keys)]


@dataclass(frozen=True)
class _BlockWork:
    """A block's bytes: its values, a copy of its scores, and how many of these there are.

    `routed` of the values are of experts; `attended` are those of an attention that makes its
    scores anew wherever it needs them; `states` is a copy of what a recurrence hands on, `reads`
    one of what its tokens read.
    """

    values: float
    routed: float
    scores: float
    kept_copies: float
    worked_copies: float
    attended: float
    states: float
    reads: float

    @property
    def kept(self) -> float:
        """What is kept for the backward pass."""
        return self.values + self.kept_copies * self.scores + _STATES_KEPT * self.states

    def worked_on(self, ahead: float) -> float:
        """What is there beside that while the pass is at this block."""
        recurring = self.attended + self.states
        return ahead * self.values + self.worked_copies * self.scores + recurring

    def passed(self, ahead: float) -> float:
        """What is there at a block of which nothing was kept."""
        again = self.kept_copies * self.scores + _STATES_KEPT * self.states
        fewer = max(0.0, ahead - _ROUTED_WORKED) * self.routed
        return again + self.worked_on(ahead) - fewer


class _Work:
    """The bytes of a step, part by part."""

    def __init__(
        self,
        shapes: ModelShapes,
        recipe: Recipe,
        backend: Kind,
        constants: Constants,
        length: int,
    ) -> None:
        self._shapes, self._recipe, self._constants = shapes, recipe, constants
        self._keeps_packed = backend != "cpu"
        self._chunk_logits = CHUNK_LOGITS[backend]
        self._value_bytes = shapes.dtype_bytes if self._keeps_packed else 4
        self._length = length
        self._tokens = recipe.batch_size * max(1, length - 1)
        self._trained = shapes.trained_blocks(recipe.num_layers)

    def _together(self, a: float, b: float) -> float:
        """The peak of two things that follow each other."""
        return max(a, b) + self._constants.overlap * min(a, b)

    @cached_property
    def adapter(self) -> int:
        return adapter_parameters(self._trained, self._recipe) * _ADAPTER_BYTES

    @cached_property
    def trained(self) -> int:
        """What gradients and optimizer follow: the adapter, or the trained blocks themselves."""
        if self._recipe.fine_tune_type != "full":
            return self.adapter
        return sum(each.parameters for each in self._trained) * self._value_bytes

    @property
    def loss(self) -> float:
        """A chunk's logits, as often as the loss and its gradient hold them.

        Beside them the hidden states of all positions and their gradient.
        """
        vocabulary, hidden = self._shapes.vocabulary, self._shapes.hidden
        chunk = min(self._tokens, max(SMALLEST_CHUNK, self._chunk_logits // vocabulary))
        values = self._constants.logits * chunk * vocabulary + 2 * self._tokens * hidden
        return values * self._value_bytes

    @property
    def held(self) -> float:
        """Activations and logits at the start of the backward pass.

        The trained blocks keep all of theirs, or, checkpointed, their inputs only; those that the
        pass is at are worked on.
        """
        constants = self._constants
        blocks = [self._block(each) for each in self._trained]
        worked_on = max((each.worked_on(constants.ahead) for each in blocks), default=0.0)
        everything = sum(each.kept for each in blocks) + self._together(self.loss, worked_on)
        everything = max(everything, self._turned(blocks, [each.kept for each in blocks]))
        if not self._recipe.grad_checkpoint:
            return everything
        inputs = len(blocks) * self._tokens * self._shapes.hidden * self._value_bytes
        passed = max((each.passed(constants.ahead_checkpointed) for each in blocks), default=0.0)
        turned = self._turned(blocks, [0.0] * len(blocks))
        return min(everything, inputs + max(self._together(self.loss, passed), turned))

    def _turned(self, blocks: Sequence[_BlockWork], kept: Sequence[float]) -> float:
        """The most once the pass has passed a recurrence, with what those before it keep."""
        before = accumulate(kept, initial=0.0)
        turned = [
            held + _STATES_TURNED * each.states for held, each in zip(before, blocks, strict=False)
        ]
        waiting = _READS_TURNED * self._length * blocks[0].reads if blocks else 0.0
        return max([turned[0] + waiting, *turned[1:]]) if turned else 0.0

    def _block(self, block: Block) -> _BlockWork:
        """A block's activations and scores, and what the adapter adds to them.

        DoRA computes in float32, from copies of the values that a block has in less; it keeps each
        matrix's result as well, and the matrix itself where it is packed. Packed rows need a mask,
        with which no backend fuses the backward pass of an attention.
        """
        adapted, values = self._adapted([block]), float(block.width)
        unpacked = copies = 0
        if self._recipe.fine_tune_type == "dora":
            values += sum(each.active * each.outputs for each in adapted)
            unpacked = sum(each.parameters for each in adapted if self._is_packed(each))
        if self._recipe.fine_tune_type == "dora" and self._value_bytes < _ADAPTER_BYTES:
            read = {each.reads: each.active * each.inputs for each in adapted}
            copies = sum(read.values()) * _ADAPTER_BYTES
        kept = self._score_copies(block)
        recurrence = block.recurrence or Recurrence(0, 0)
        seen_by_heads = self._recipe.batch_size * block.heads * self._length
        made_at_once = seen_by_heads * min(self._length, ATTENTION_BLOCK) * self._value_bytes
        return _BlockWork(
            self._tokens * (values * self._value_bytes + copies) + unpacked * self._value_bytes,
            self._tokens * block.routed * self._value_bytes,
            self._tokens * block.heads * self._length * self._value_bytes,
            kept,
            self._constants.scoring if kept else 0.0,
            0.0 if kept else self._constants.scores * made_at_once,
            self._tokens * recurrence.state * _STATE_BYTES,
            self._tokens * recurrence.read * _STATE_BYTES,
        )

    def _score_copies(self, block: Block) -> float:
        """Copies of the scores that an attention keeps; 0 where it makes them anew."""
        constants = self._constants
        masked = constants.masked if self._recipe.packing else 0.0
        unfused = 0.0 if block.fused_attention else constants.unfused
        return max(masked, unfused)

    def _is_packed(self, matrix: Matrix) -> bool:
        """Whether the backend keeps the matrix quantized; a CPU's trainer dequantizes all."""
        return matrix.quantization is not None and self._keeps_packed

    def _adapted(self, blocks: Sequence[Block]) -> list[Matrix]:
        if self._recipe.fine_tune_type == "full":
            return []
        return _adapted(blocks, self._recipe)

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
            vectors = sum(each.vectors for each in self._trained)
            sides = sum(
                each.experts * (each.inputs + each.outputs * (1 + each.bias)) for each in matrices
            )
            return (vectors + sides) * self._value_bytes
        rank = self._recipe.lora_parameters.rank
        adapted = _adapted(self._trained, self._recipe)
        sides = sum(each.experts * (each.inputs + each.outputs + 2 * rank) for each in adapted)
        return sides * _ADAPTER_BYTES

    def beside_weights(self, held: float) -> float:
        """Activations with the gradients beside them, or an update that exceeds both."""
        waiting = self.trained if self._recipe.grad_accumulation_steps > 1 else 0
        backward = waiting + self._together(held, self.trained)
        copies = self._constants.update + (MUON_UPDATE if self._recipe.optimizer == "muon" else 0)
        return max(backward, self.trained * (1 + copies))
