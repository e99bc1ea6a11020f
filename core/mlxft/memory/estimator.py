"""Estimates a run's memory from the model's shapes and the recipe alone.

Memory peaks at the start of the backward pass, when the weights, all activations of the trained
blocks and several copies of a chunk of logits exist at once; or in the optimizer's update, when the
trained weights exist twice. Counts follow from the shapes; the few constants of each backend (how
many copies, how far it computes ahead) are fitted to peaks measured by ``benchmarks/estimator.py``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Final, Literal

from mlxft import recipe as recipes
from mlxft.hosts import rank_count
from mlxft.memory.blocks import Block, Matrix, Recurrence
from mlxft.memory.fitted import CONSTANTS, BackendKind, Constants
from mlxft.memory.outside import trained_outside
from mlxft.memory.shapes import ModelShapes
from mlxft.memory.step_memory import NONE, Corrections, StepMemory
from mlxft.recipe import Recipe

Verdict = Literal["fits", "may_fit", "tight", "wont_fit", "unknown"]

CHUNK_LOGITS: Final[dict[BackendKind, int]] = {"cpu": 2**22, "metal": 2**26, "cuda": 2**26}
"""Logits computed at once by the loss; the trainer's own chunk size."""

FEW_POSITIONS: Final = 1024
"""Of so many a GPU's chunks are half as large."""

SMALLEST_CHUNK: Final = 128
"""The fewest positions of a GPU's chunk, which is a multiple of it."""

ATTENTION_BLOCK: Final[dict[BackendKind, int]] = {"cpu": 128, "metal": 256, "cuda": 512}
"""Queries whose scores are computed at once, as in the trainer's own attention."""

MOST_SCORES: Final[dict[BackendKind, int]] = {"cpu": 2**27, "cuda": 2**27, "metal": 2**26}
"""Scores of such a block at most, of all heads and rows, as in the trainer's own attention."""

FEWEST_QUERIES: Final = 32
"""Queries of such a block at least."""

LARGEST_FUSED: Final[dict[BackendKind, int]] = {"cpu": 0, "metal": 256, "cuda": 128}
"""The largest head of attention whose gradient a backend's own kernels compute."""

LARGEST_UNPACKED: Final = 2**26
"""Bytes of a quantized matrix that CUDA unpacks at once, as in the trainer's own products."""

UNPACKED_BEFORE: Final = 40_000_000
"""Bytes of unpacked matrices that CUDA still holds: what is freed inside a command buffer stays
allocated until its end."""

UPDATED_AT_ONCE: Final = 2**20
"""Bytes of weights that a CPU updates at once, or the largest matrix; a GPU updates all."""

TIGHT_SHARE: Final = 0.85
"""Share of the limit above which a run is tight: other programs need memory too."""

CHUNK: Final = 64
"""Tokens of a recurrence's chunk, as in the trainer's own recurrences."""

SPAN_BYTES: Final[dict[BackendKind, int]] = {"cpu": 0, "metal": 2**24, "cuda": 2**26}
"""Of the widest array of the chunks that are computed at once; one chunk at least."""

_RECURRENCE_BYTES: Final = 4
"""A recurrence is computed in float32."""

_SQUARED_AT_ONCE: Final = 20
"""Arrays that MLX computes at once where nothing makes it wait for one (MLX_BFS_MAX_WIDTH)."""

_NORMS: Final = 2
"""Vectors of a block that are no matrix's."""

_TRAINED_HEAD: Final = 3.5
"""Copies of a chunk's logits where the head is trained."""

_HEAD_GRADIENTS: Final = 3
"""Gradients of a trained head that exist at once: two chunks' and a sum."""

_SPAN_ARRAYS: Final = 26
"""Arrays of such chunks that exist at once in the backward pass."""

_TWICE: Final = 2.0
"""Copies of a checkpointed block's activations of experts and DoRA: values and gradients, computed
one matrix at a time."""

_ADAPTER_BYTES: Final = 4
"""Adapters are float32 whatever the model's dtype."""

_MESSAGE_BYTES: Final = 4
"""Gradients are added up in float32."""


@dataclass(frozen=True, kw_only=True)
class MemoryEstimate:
    """Bytes by part, in stacking order; `limit` is None if unknown.

    `correction` is the factor on activations and loss that finished runs on this machine suggest,
    1 without any.
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
    known_family: bool
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
        """Memory of the whole process."""
        return self.peak + self.cache + self.base

    @property
    def peak(self) -> int:
        """The peak that MLX will report."""
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
        """Whether the run fits within the limit; of a guess that no run has corrected, it may."""
        if self.limit is None:
            return "unknown"
        if self.total > self.limit:
            return "wont_fit"
        if self.total > TIGHT_SHARE * self.limit:
            return "tight"
        return "fits" if self.known_family or self.correction != 1 else "may_fit"


def estimate(
    shapes: ModelShapes,
    recipe: Recipe,
    backend: BackendKind,
    limit: int | None,
    longest: int | None = None,
    *,
    corrections: Corrections = NONE,
    constants: Constants | None = None,
) -> MemoryEstimate:
    """The memory of a run on a backend.

    `longest` is the longest row in tokens, padding included, if the data is known; rows are never
    longer than max_seq_length. Of several ranks it is the one with the most rows, and its share of
    the `limit` where ranks share a machine's memory. `corrections` scale activations and loss, as
    learned from earlier runs. `constants` default to the backend's.
    """
    constants = constants or CONSTANTS[backend]
    work = _work(shapes, recipe, backend, longest, constants)
    step = work.step
    # Parts are differences of rounded sums, so that rounding never makes a larger recipe smaller.
    loss, held = int(corrections.loss * step.loss), int(step.held(corrections))
    return MemoryEstimate(
        weights=work.weights,
        adapter=work.adapter,
        gradients=max(0, int(step.with_gradients(corrections)) - held),
        optimizer=work.optimizer,
        activations=held - loss,
        loss=loss,
        cache=int(constants.cache * held),
        base=constants.base,
        limit=_own_limit(limit, recipe, backend),
        known_family=shapes.known_family,
        correction=1.0 if corrections == NONE else held / max(1.0, step.held()),
    )


def _own_limit(limit: int | None, recipe: Recipe, backend: BackendKind) -> int | None:
    """A rank's part of this machine's memory; each NVIDIA GPU has its own."""
    if limit is None or backend == "cuda":
        return limit
    return limit // rank_count(recipe.hosts).here


def step_memory(
    shapes: ModelShapes, recipe: Recipe, backend: BackendKind, longest: int | None = None
) -> StepMemory:
    """What a step of a run takes, to be corrected."""
    return _work(shapes, recipe, backend, longest, CONSTANTS[backend]).step


def _work(
    shapes: ModelShapes,
    recipe: Recipe,
    backend: BackendKind,
    longest: int | None,
    constants: Constants,
) -> _Work:
    return _Work(shapes, recipe, backend, constants, _row_length(recipe, longest))


def _row_length(recipe: Recipe, longest: int | None) -> int:
    """Tokens of the longest row; packed rows are full."""
    if longest is None or recipe.packing:
        return recipes.row_limit(recipe)
    return min(longest, recipe.max_seq_length)


def chunk_positions(backend: BackendKind, vocabulary: int, positions: int) -> int:
    """Positions whose logits the loss computes at once, of so many."""
    halves = 2 if backend != "cpu" and positions <= FEW_POSITIONS else 1
    most, multiple = (
        CHUNK_LOGITS[backend] // halves // vocabulary,
        1 if backend == "cpu" else SMALLEST_CHUNK,
    )
    return max(SMALLEST_CHUNK, most // multiple * multiple)


def adapter_parameters(blocks: Sequence[Block], recipe: Recipe) -> int:
    """Parameters of the adapter on these blocks; 0 for full fine-tuning.

    As ``mlx_lm.tuner.utils.linear_to_lora_layers``: every linear layer, or those named in keys.
    """
    if recipe.fine_tune_type == "full":
        return 0
    rank, dora = recipe.lora_parameters.rank, recipe.fine_tune_type == "dora"
    return sum(
        each.experts * (rank * (each.inputs + each.outputs) + dora * each.outputs)
        for each in _adapted(blocks, recipe)
    )


def trained_parameters(shapes: ModelShapes, recipe: Recipe) -> int:
    """Parameters that a run trains: the adapter, or the trained blocks themselves."""
    blocks, outside = shapes.trained_blocks(recipe.num_layers), trained_outside(shapes, recipe)
    if recipe.fine_tune_type == "full":
        return sum(each.parameters for each in blocks) + outside.full
    return adapter_parameters(blocks, recipe) + outside.adapter


def normed_weights(blocks: Sequence[Block], recipe: Recipe) -> int:
    """Weights whose norm DoRA computes in each pass; 0 for other adapters."""
    if recipe.fine_tune_type != "dora":
        return 0
    return sum(each.experts * each.inputs * each.outputs for each in _adapted(blocks, recipe))


def _adapted(blocks: Sequence[Block], recipe: Recipe) -> list[Matrix]:
    keys = recipe.lora_parameters.keys
    matrices = (each for block in blocks for each in block.matrices)
    return [each for each in matrices if each.adaptable and (keys is None or each.name in keys)]


@dataclass(frozen=True, kw_only=True)
class _BlockWork:
    """A block's bytes: its values, one copy of its scores, and the number of such copies.

    `twice` of the values belong to experts and DoRA, `unpacked` are whole matrices; `attended` is
    an attention that recomputes its scores, `attended_again` what it takes on top in a checkpointed
    block; `states` are those between a recurrence's chunks, `recurring` what chunks need meanwhile,
    `unpacked_before` what is left of other matrices.
    """

    values: float
    twice: float
    unpacked: float
    scores: float
    kept_copies: float
    worked_copies: float
    attended: float
    attended_again: float
    states: float
    recurring: float
    unpacked_before: float

    @property
    def kept(self) -> float:
        """Bytes kept for the backward pass."""
        return self.values + self.kept_copies * self.scores + self.states

    def worked_on(self, ahead: float) -> float:
        """Bytes on top of that while the backward pass is in this block."""
        again = self.attended + self.recurring + self.unpacked_before
        return ahead * self.values + self.worked_copies * self.scores + again

    def passed(self, ahead: float) -> float:
        """Bytes while the backward pass recomputes a checkpointed block."""
        again = self.kept_copies * self.scores + self.states
        fewer = max(0.0, ahead - _TWICE) * self.twice + max(0.0, ahead - 1) * self.unpacked
        return again + self.worked_on(ahead) - fewer + self.attended_again


class _Work:
    """The bytes of a step by part."""

    def __init__(
        self,
        shapes: ModelShapes,
        recipe: Recipe,
        backend: BackendKind,
        constants: Constants,
        length: int,
    ) -> None:
        self._shapes, self._recipe, self._constants = shapes, recipe, constants
        self._backend = backend
        self._keeps_packed = backend != "cpu"
        self._value_bytes = shapes.dtype_bytes if self._keeps_packed else 4
        self._length = length
        self._rows = recipes.rows_of_largest_part(recipe)
        self._tokens = self._rows * max(1, length - 1)
        self._chunk = chunk_positions(backend, shapes.vocabulary, self._tokens)
        self._trained = shapes.trained_blocks(recipe.num_layers)
        self._outside = trained_outside(shapes, recipe)
        self._passed = shapes.blocks if self._outside.of_embedding else self._trained
        """The blocks that the backward pass goes through."""

    @property
    def weights(self) -> int:
        """Bytes of the model."""
        return self._shapes.parameters * 4 if self._backend == "cpu" else self._shapes.stored_bytes

    @cached_property
    def adapter(self) -> int:
        if self._recipe.fine_tune_type == "full":
            return self._outside.adapter * _ADAPTER_BYTES
        return trained_parameters(self._shapes, self._recipe) * _ADAPTER_BYTES

    @cached_property
    def trained(self) -> int:
        """Bytes of what is trained: the adapter, or the trained blocks themselves."""
        if self._recipe.fine_tune_type != "full":
            return self.adapter
        return trained_parameters(self._shapes, self._recipe) * self._value_bytes

    @property
    def step(self) -> StepMemory:
        """All that exists at once in a step.

        The blocks that the backward pass goes through keep all activations or, if checkpointed,
        only their inputs.
        """
        recipe, constants = self._recipe, self._constants
        passed_only = len(self._passed) - len(self._trained)
        blocks = [self._block(each, at >= passed_only) for at, each in enumerate(self._passed)]
        worked = max((each.worked_on(constants.ahead) for each in blocks), default=0.0)
        again = constants.ahead_checkpointed
        passed = max((each.passed(again) for each in blocks), default=0.0)
        inputs = float(len(blocks) * self._tokens * self._shapes.hidden * self._value_bytes)
        # A trained head's loss is MLX's own on a CPU too.
        own = (
            replace(CONSTANTS["metal"], logits=_TRAINED_HEAD)
            if self._outside.of_head
            else constants
        )
        return StepMemory(
            counted=self.weights + self.adapter + self.optimizer,
            kept=sum(each.kept for each in blocks),
            worked=worked,
            loss=self._loss(own.logits + own.capped * self._shapes.caps_logits),
            inputs=inputs if recipe.grad_checkpoint else None,
            passed=passed if recipe.grad_checkpoint else None,
            trained=self.trained,
            waiting=self.trained if recipe.grad_accumulation_steps > 1 else 0,
            squared=self._squared if recipe.grad_accumulation_steps > 1 else 0,
            messages=self._messages,
            update=self._update,
            blocks=len(blocks),
            lag=constants.lag,
            loss_overlap=own.loss_overlap,
        )

    def _loss(self, copies: float) -> float:
        """The copies of a chunk's logits in the loss and its gradient, and the hidden states of all
        positions with their gradient; of a trained head also the chunks' gradients by its weights,
        with their sum."""
        vocabulary, hidden = self._shapes.vocabulary, self._shapes.hidden
        chunk = min(self._tokens, self._chunk)
        values = copies * chunk * vocabulary + 2 * self._tokens * hidden
        values += _HEAD_GRADIENTS * self._outside.of_head
        return values * self._value_bytes + self._unpacked_head

    @property
    def _unpacked_head(self) -> int:
        """Bytes of the parts of a quantized head that are unpacked at once."""
        head = self._shapes.head or self._shapes.embedding
        if head.quantization is None or self._backend != "cuda":
            return 0
        return min(LARGEST_UNPACKED + UNPACKED_BEFORE, head.parameters * self._value_bytes)

    @property
    def _update(self) -> float:
        """What the optimizer's update makes beside the gradients."""
        constants = self._constants
        copies = constants.update + (constants.muon if self._recipe.optimizer == "muon" else 0)
        if self._backend != "cpu":
            return copies * self.trained
        return copies * min(self.trained, max(UPDATED_AT_ONCE, self._largest_trained))

    @property
    def _squared(self) -> float:
        """The squares of as many gradients as a CPU computes at once for their norm."""
        if self._backend != "cpu":
            return 0
        if self._recipe.fine_tune_type == "full":
            arrays = sum(len(block.matrices) + _NORMS for block in self._trained)
        else:
            arrays = 2 * len(self._adapted(self._trained))
        return self.trained * min(1.0, _SQUARED_AT_ONCE / max(1, arrays))

    @property
    def _largest_trained(self) -> int:
        """Bytes of the largest array that full fine-tuning trains."""
        matrices = [each.parameters for block in self._trained for each in block.matrices]
        full = self._recipe.fine_tune_type == "full"
        return max(matrices, default=0) * self._value_bytes if full else 0

    def _block(self, block: Block, is_trained: bool) -> _BlockWork:
        """A block's activations and scores, and what the adapter adds to them.

        DoRA computes in float32, from copies of lower-precision values; it also keeps each matrix's
        output, and the dequantized matrix.
        """
        adapted, values = self._adapted([block] if is_trained else []), float(block.width)
        routed = block.routed
        if self._backend == "cpu":
            normed = 2 * self._shapes.hidden if self._recipe.fine_tune_type == "full" else 0
            values += block.on_cpu + self._low_rank(adapted) + normed
            routed += block.routed_on_cpu
        unpacked = of_dora = 0
        if self._recipe.fine_tune_type == "dora":
            of_dora = sum(each.active * each.outputs for each in adapted) * self._value_bytes
            unpacked = sum(each.parameters for each in adapted if self._is_packed(each))
        if self._recipe.fine_tune_type == "dora" and self._value_bytes < _ADAPTER_BYTES:
            read = {each.reads: each.active * each.inputs for each in adapted}
            of_dora += sum(read.values()) * _ADAPTER_BYTES
        kept = self._score_copies(block)
        recurrence = block.recurrence or Recurrence(0, 0)
        chunks = -(-(self._length - 1) // CHUNK)
        seen_by_heads = self._rows * block.heads * self._length
        fitting = max(FEWEST_QUERIES, MOST_SCORES[self._backend] // max(1, seen_by_heads))
        queries = min(self._length, ATTENTION_BLOCK[self._backend], fitting)
        made_at_once = seen_by_heads * queries * self._value_bytes * self._in_blocks(block)
        again = self._constants.scores_checkpointed - self._constants.scores
        matrices = unpacked * self._value_bytes
        return _BlockWork(
            values=self._tokens * (values * self._value_bytes + of_dora) + matrices,
            twice=self._tokens * (routed * self._value_bytes + of_dora),
            unpacked=matrices,
            scores=self._tokens * block.heads * self._length * self._value_bytes,
            kept_copies=kept,
            worked_copies=self._constants.scoring if kept else 0.0,
            attended=self._constants.scores * made_at_once,
            attended_again=again * made_at_once,
            states=self._rows * chunks * recurrence.state * _RECURRENCE_BYTES,
            recurring=_SPAN_ARRAYS * self._span(recurrence),
            unpacked_before=UNPACKED_BEFORE * self._unpacks(block),
        )

    def _low_rank(self, adapted: Sequence[Matrix]) -> int:
        """Values per token between the two matrices of each adapter."""
        return self._recipe.lora_parameters.rank * sum(each.active for each in adapted)

    def _span(self, recurrence: Recurrence) -> float:
        """Bytes of the widest array of the chunks that are computed at once."""
        chunk = self._rows * CHUNK * recurrence.width * _RECURRENCE_BYTES
        every = self._tokens * recurrence.width * _RECURRENCE_BYTES
        return min(every, max(chunk, SPAN_BYTES[self._backend]))

    def _score_copies(self, block: Block) -> float:
        """Copies of the scores that attention keeps; 0 if it recomputes them."""
        return 0.0 if block.fused_attention else self._constants.unfused

    def _in_blocks(self, block: Block) -> bool:
        """Whether attention is computed in blocks of queries.

        Packed rows need a mask, with which no backend fuses the backward pass.
        """
        fits = block.head_size <= LARGEST_FUSED[self._backend] and not self._recipe.packing
        return block.fused_attention and (self._backend == "cpu" or not fits)

    def _is_packed(self, matrix: Matrix) -> bool:
        """Whether the backend keeps the matrix quantized; on a CPU all are dequantized."""
        return matrix.quantization is not None and self._keeps_packed

    def _unpacks(self, block: Block) -> bool:
        """Whether the backward pass unpacks matrices of the block."""
        return self._backend == "cuda" and any(map(self._is_packed, block.matrices))

    def _adapted(self, blocks: Sequence[Block]) -> list[Matrix]:
        if self._recipe.fine_tune_type == "full":
            return []
        return _adapted(blocks, self._recipe)

    @property
    def optimizer(self) -> int:
        """Adam keeps two values per weight, SGD and Muon one, Adafactor one per row and column."""
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
            return (vectors + sides + self._outside.sides) * self._value_bytes
        rank = self._recipe.lora_parameters.rank
        adapted = _adapted(self._trained, self._recipe)
        sides = sum(each.experts * (each.inputs + each.outputs + 2 * rank) for each in adapted)
        return (sides + self._outside.sides) * _ADAPTER_BYTES

    @property
    def _messages(self) -> int:
        """What adding up gradients in float32 messages makes beside the gradients: these join in
        one, and a CPU copies some before; then each message is there with the sum."""
        if rank_count(self._recipe.hosts).all == 1:
            return 0
        full = self._recipe.fine_tune_type == "full"
        size = self._value_bytes if full else _ADAPTER_BYTES
        message = (self.trained // size) * _MESSAGE_BYTES
        copied = int(self._constants.update * self._largest_trained) * (self._backend == "cpu")
        return max(message + copied, 2 * message - self.trained)
