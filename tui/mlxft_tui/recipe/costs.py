"""What a recipe costs in memory and time, from all that is known about model, data and machine."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Literal

from mlxft import recipe as recipes
from mlxft.advice.fit import USUAL_BLOCKS
from mlxft.data.batch_plan import padded_width, rounding_on
from mlxft.duration.expectation import Expectation, PastRun, RowSummary, expect, longest_record
from mlxft.hosts import rank_count
from mlxft.memory.calibrated import CalibratedEstimator
from mlxft.memory.calibration import Calibration
from mlxft.memory.confidence import Assumptions
from mlxft.recipe import Parameter, Recipe
from mlxft.recipe.value_text import value_text
from mlxft_tui.recipe.form import EPOCHS, epochs_text

if TYPE_CHECKING:
    from mlxft.advice.types import Advice
    from mlxft.data.folder_view import DataView
    from mlxft.data.split_files import SplitName
    from mlxft.data.token_figures import TokenFigures
    from mlxft.engine.protocol import ModelOpened
    from mlxft.memory.estimator import MemoryEstimate
    from mlxft.memory.fitted import BackendKind
    from mlxft.memory.shapes import ModelShapes
    from mlxft.sweep.cost import Sources
    from mlxft.telemetry.limits import MachineLimits
    from mlxft.telemetry.sample import Sample

Direction = Literal[-1, 1]


@dataclass(frozen=True)
class Neighbour:
    """A parameter's next value in a direction, and what it adds in bytes and seconds; None where
    that isn't known."""

    direction: Direction
    value: str
    memory: int | None
    seconds: float | None


@dataclass(frozen=True, kw_only=True)
class Costs:
    """A recipe with everything that its costs depend on."""

    recipe: Recipe
    shapes: ModelShapes | str | None = None
    """The model's matrices, or why its config.json can't be read."""
    model: ModelOpened | None = None
    limits: MachineLimits | None = None
    machine: Sample | None = None
    run_is_live: bool = False
    data: DataView | None = None
    tokens: Mapping[SplitName, TokenFigures] = field(default_factory=dict)
    past: Sequence[PastRun] = ()
    calibration: Calibration | None = field(default_factory=Calibration)
    """Corrections by past peaks; None until they are read, so that no estimate jumps."""

    def of(self, recipe: Recipe) -> Costs:
        """The costs of another recipe of the same model."""
        return replace(self, recipe=recipe)

    # The data

    @property
    def train_records(self) -> int | None:
        """Records of the training set, once they are counted; those that suit the loss."""
        if self.recipe.loss != "sft" and self.formats:
            from mlxft.data.compared import suited

            return suited(self.formats, self.recipe.loss)
        return self.data.train_records if self.data else None

    @property
    def contradictions(self) -> int:
        """Training records that answer an earlier one's prompt differently."""
        found = self.data.split("train").statistics if self.data else None
        return found.contradiction_count if found else 0

    @property
    def formats(self) -> Mapping[str, int]:
        """Training records by format, once they are counted."""
        found = self.data.split("train").statistics if self.data else None
        return found.formats if found else {}

    @property
    def valid_records(self) -> int:
        """Records of the validation set, as far as they are counted."""
        found = self.data.split("valid").statistics if self.data else None
        return found.records if found else 0

    @property
    def trains_nothing(self) -> bool:
        """Whether the run would be refused because no token of its records is trained."""
        measured = self.tokens.get("train")
        return measured is not None and measured.trains_nothing

    @property
    def too_few_records(self) -> str:
        """Why the run would be refused whatever its memory; empty if it wouldn't."""
        records = self.train_records
        return recipes.too_few_records(records, self.recipe.batch_size) if records else ""

    @cached_property
    def steps_per_epoch(self) -> int | None:
        """Steps in which every record is seen once; measured in tokens if rows are packed."""
        measured = self.tokens.get("train")
        if self.recipe.packing:
            return measured.steps_per_epoch if measured else None
        if self.recipe.overlong == "split" and measured:
            return measured.steps_per_epoch
        untrainable = measured.untrainable if measured and measured.whole else 0
        if not self.train_records:
            return None
        rows = max(1, self.train_records - untrainable)
        return recipes.steps_per_epoch(rows, self.recipe.batch_size)

    @property
    def row_summary(self) -> RowSummary:
        """The rows that the recipe makes of the data."""
        measured, valid = self.tokens.get("train"), self.valid_records
        if measured is None or not measured.records or not measured.tokens:
            return RowSummary(valid_rows=valid, steps_per_epoch=self.steps_per_epoch)
        longest = float(self.recipe.max_seq_length)
        row = min(measured.tokens / measured.records, longest)
        if self.recipe.packing:
            valid, row = math.ceil(valid * row / longest), float(recipes.row_limit(self.recipe))
        share = min(1.0, measured.trained_tokens / measured.tokens)
        return RowSummary(row, share, valid, self.steps_per_epoch)

    @property
    def awaits_tokens(self) -> bool:
        """Whether the training records have yet to be measured."""
        return bool(self.train_records) and "train" not in self.tokens and not self.longest

    @property
    def longest(self) -> int | None:
        """Tokens of the longest record, if the data was measured or a run has tokenized it."""
        measured = self.tokens.get("train")
        if measured and measured.whole:
            return measured.longest
        return longest_record(self.recipe, self.past, self.train_records)

    # Memory and time

    @property
    def known_shapes(self) -> ModelShapes | None:
        """The model's matrices, if its config.json could be read."""
        return None if isinstance(self.shapes, str) else self.shapes

    @property
    def known_blocks(self) -> int | None:
        """The model's transformer blocks, if they are known."""
        return len(self.known_shapes.blocks) if self.known_shapes else None

    @property
    def blocks(self) -> int:
        """The model's transformer blocks, or a usual number."""
        return self.known_blocks or USUAL_BLOCKS

    @cached_property
    def estimator(self) -> CalibratedEstimator | None:
        """Estimates recipes of this model here, once its shapes and the device are known."""
        shapes, kind, calibration = self.known_shapes, self.kind, self.calibration
        if shapes is None or kind is None or calibration is None:
            return None
        return CalibratedEstimator(shapes, kind, self._limit, self.longest, calibration)

    @property
    def kind(self) -> BackendKind | None:
        """The device's kind, once it is known."""
        if self.model is not None:
            return self.model.backend.kind
        return self.limits.kind if self.limits is not None else None

    @property
    def _limit(self) -> int | None:
        if self.model is not None:
            return self.model.backend.memory_limit or self.installed
        return self.limits.limit if self.limits is not None else None

    @cached_property
    def estimate(self) -> MemoryEstimate | None:
        """The recipe's memory."""
        return self.estimator.estimate(self.recipe) if self.estimator else None

    @property
    def wont_fit(self) -> bool:
        """Whether the recipe is known to need too much memory."""
        return self.estimate is not None and self.estimate.verdict == "wont_fit"

    @cached_property
    def duration(self) -> Expectation | None:
        """The recipe's time, from past runs or else from the chip's specs."""
        backend = self.model.backend if self.model else None
        return expect(self.recipe, self.past, self.known_shapes, backend, self.row_summary)

    def sources(self) -> Sources:
        """What is known of recipes of the same model, for a sweep's cost."""
        from mlxft.sweep.cost import Sources

        estimator, model = self.estimator, self.recipe.model

        def memory(recipe: Recipe) -> MemoryEstimate | None:
            return estimator.estimate(recipe) if estimator and recipe.model == model else None

        def time(recipe: Recipe) -> Expectation | None:
            return self.of(recipe).duration if recipe.model == model else None

        return Sources(memory=memory, time=time)

    @property
    def installed(self) -> int | None:
        """Bytes of the device's memory."""
        sample = self.machine
        return (sample.gpu_memory_total or sample.memory_total) if sample else None

    def assumptions(self, estimator: CalibratedEstimator) -> Assumptions:
        """What the memory estimate assumes."""
        longest, limit = estimator.longest, self.recipe.max_seq_length
        measured, row = longest is not None and not self.recipe.packing, limit
        if longest is not None and measured:
            row = padded_width(longest, limit, rounding_on(estimator.kind))
        return Assumptions(
            kind=estimator.kind,
            calibration=estimator.calibration,
            attention=estimator.attention(self.recipe),
            row=row,
            measured=measured,
            used_elsewhere=self.used_elsewhere,
            installed=self.installed,
            ranks=rank_count(self.recipe.hosts),
        )

    @property
    def used_elsewhere(self) -> int | None:
        """Bytes that other programs use; unknown while a run of ours is among them."""
        sample = self.machine
        if sample is None or self.run_is_live:
            return None
        return sample.gpu_memory_used if sample.gpu_memory_total else sample.memory_used

    def advice(self) -> tuple[Advice, ...]:
        """What to consider before starting."""
        if self.known_shapes is None:
            return ()
        from mlxft.advice.before_run import before_run
        from mlxft.watching.installed import missing_advice

        return (
            *missing_advice(self.recipe),
            *before_run(
                self.recipe,
                self.known_shapes.bits,
                self.estimator.estimate if self.estimator else None,
                train_records=self.train_records,
                valid_records=self.valid_records,
                steps_per_epoch=self.steps_per_epoch,
                blocks=self.blocks,
                contradictions=self.contradictions if self.recipe.loss == "sft" else 0,
                formats=self.formats,
                trains_nothing=self.trains_nothing,
            ),
        )

    # The next values of a parameter

    def stepped(self, parameter: Parameter, direction: Direction) -> Recipe | None:
        """The recipe with a value one step along its scale; None if epochs aren't known."""
        if parameter is EPOCHS:
            epochs = self.next_epochs(direction)
            return None if epochs is None else self.with_epochs(epochs)
        moved = recipes.step(self.recipe, parameter.key, direction)
        if parameter.key == "num_layers" and moved.num_layers > self.blocks and direction > 0:
            return recipes.replace(self.recipe, "num_layers", self.blocks)
        return moved

    def next_epochs(self, direction: Direction) -> int | None:
        """The next whole number of epochs."""
        if not self.steps_per_epoch:
            return None
        epochs = recipes.epochs_for_iters(self.recipe.iters, self.steps_per_epoch)
        return max(1, math.floor(epochs) + 1 if direction > 0 else math.ceil(epochs) - 1)

    def with_epochs(self, epochs: float) -> Recipe | None:
        """The recipe with the steps of this many epochs; None if an epoch isn't known."""
        if not self.steps_per_epoch:
            return None
        steps = recipes.iters_for_epochs(epochs, self.steps_per_epoch)
        return recipes.replace(self.recipe, "iters", steps)

    def neighbours(self, parameter: Parameter) -> list[Neighbour]:
        """What a step down and a step up would cost, if they lead anywhere."""
        directions: tuple[Direction, ...] = (1,) if parameter.kind == "bool" else (-1, 1)
        found = (self._neighbour(parameter, each) for each in directions)
        return [each for each in found if each is not None and (each.memory or each.seconds)]

    def _neighbour(self, parameter: Parameter, direction: Direction) -> Neighbour | None:
        moved = self.stepped(parameter, direction)
        if moved is None or moved == self.recipe:
            return None
        then = self.of(moved)
        value = (
            epochs_text(moved, self.steps_per_epoch)
            if parameter is EPOCHS
            else value_text(parameter, recipes.get(moved, parameter.key))
        )
        memory = seconds = None
        if self.estimator and self.estimate:
            memory = self.estimator.estimate(moved).total - self.estimate.total
        if self.duration and then.duration:
            seconds = then.duration.seconds - self.duration.seconds
        return Neighbour(direction, value, memory, seconds)
