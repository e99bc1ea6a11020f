"""Trains one run: from its recipe to its adapter."""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import datetime
from typing import TYPE_CHECKING

from mlxft import recipe as recipes
from mlxft.compute.arrays import named_arrays
from mlxft.compute.training import answering, checkpoint, failures
from mlxft.compute.training.accounting import Account, end_reason, report, summary
from mlxft.compute.training.answering import Asked
from mlxft.compute.training.checkpoint import Checkpoint
from mlxft.compute.training.first_update import FirstUpdate
from mlxft.compute.training.kernel_making import KernelsBeside
from mlxft.compute.training.limits import clear_cache, training_limits
from mlxft.compute.training.peak_history import remember_peak
from mlxft.compute.training.preparation import Prepared, prepare
from mlxft.compute.training.saving import Saver, saved_event
from mlxft.compute.training.state import ReportWindow, Spent, validates_after
from mlxft.compute.training.step import BatchLoss
from mlxft.compute.training.validation import Validation, validate, validation_batches
from mlxft.conversation.messages import Answer
from mlxft.data.batch_plan import Batch
from mlxft.errors import EngineError, ModelError, RunError, StorageError
from mlxft.recipe import Recipe
from mlxft.runs import events as ev
from mlxft.runs.directory import RunDirectory
from mlxft.runs.events import AnyEvent
from mlxft.runs.journal import EarlierSessions

if TYPE_CHECKING:
    from mlxft.compute.training.kernel_making import KernelMaker
    from mlxft.compute.training.rank_orders import Ranks


class TrainingSession:
    """Trains a run from its newest intact checkpoint, or from the start.

    All work happens in the thread that calls `prepare` and `run`. `at_safe_point` is called where
    nothing is half done: it may answer questions and make requests, which are followed when it
    returns. `is_called` says whether a command is waiting that can't wait for a sample to finish.
    `earlier` is what the journal has of earlier sessions, `ranks` the other processes that train,
    `kernels` the one that makes kernels beside this one.
    """

    def __init__(
        self,
        recipe: Recipe,
        directory: RunDirectory,
        emit: Callable[[AnyEvent], object],
        *,
        at_safe_point: Callable[[], None],
        is_called: Callable[[], bool] = lambda: False,
        earlier: EarlierSessions,
        ranks: Ranks | None = None,
        kernels: KernelMaker | None = None,
    ) -> None:
        self._recipe = recipe
        self._directory = directory
        self._emit = emit
        self._at_safe_point = at_safe_point
        self._is_called = is_called
        self._earlier = earlier
        self._ranks = ranks
        self._kernels = KernelsBeside(kernels, emit)
        checkpoint.clear_leftovers(directory)
        self._checkpoint, self._refusals = checkpoint.newest(directory, recipe)
        self._state = checkpoint.resumed_state(self._checkpoint)
        self.start_step = self._state.step
        unsaved = checkpoint.unsaved_rates(self._checkpoint, self._earlier.rate_changes)
        self._last_unsaved_rate = unsaved[-1] if unsaved else None
        self._rates = deque(() if self._earlier.failure == "not_finite" else unsaved)
        """Manual changes that a killed session has made after its checkpoint, to be repeated."""
        kept = [each for each in self._earlier.rate_changes if each.step <= self.start_step]
        made = sum(each not in self._rates for each in kept)
        self._state = replace(self._state, rate_changes=made)
        self._is_first_update = self._state.updates == 0
        self._account = Account(self._state.spent or Spent())
        self._saver = Saver(directory, recipe, self._state if self._checkpoint else None)
        self.prepared: Prepared | None = None
        """Model, data and optimizer; None until `prepare` has loaded them."""
        self._stop = self._save_requested = self._validation_requested = False
        self._skip: bool | None = None
        """Whether the present work is to be skipped; None where it can't be."""
        self.is_validating = False
        """Whether the current safe point is between two batches of a validation."""

    @property
    def step(self) -> int:
        """The last trained step."""
        return self._state.step

    @property
    def learning_rate(self) -> float:
        """The recipe's rate with its manual changes."""
        return self._recipe.learning_rate * self._state.rate_factor

    def request_stop(self) -> None:
        """Save and end before the next step."""
        self._stop = True

    def request_checkpoint(self) -> None:
        """Save before the next step."""
        self._save_requested = True

    def request_validation(self) -> None:
        """Validate before the next step."""
        self._validation_requested = True

    def request_skip(self) -> None:
        """Skip the sample in progress or the validation before the first step, if there is one."""
        if self._skip is not None:
            self._skip = True

    def set_learning_rate(self, value: float, was: float = 0.0) -> None:
        """Use this rate from the next update on, scaling the rest of a schedule in proportion.

        With `was`, the current rate is scaled by value / was instead. A schedule that has ended at
        0 stays there, with a warning. Raises `RecipeError` for a rate out of range.
        """
        self._rates.clear()
        self._emit(self._with_rate(value, was))

    def _with_rate(self, value: float, was: float = 0.0) -> ev.LearningRateChanged:
        """Set the rate."""
        prepared, state = self.prepared, self._state
        scheduled = prepared.schedule(state.updates) if prepared else 0.0
        usual = scheduled or self._recipe.learning_rate or 1.0
        wanted = usual * state.rate_factor * value / was if was else value
        rate = float(recipes.check(recipes.find("learning_rate"), wanted))
        if prepared and not scheduled and not prepared.schedule(state.updates + 1):
            self._warn("The schedule has ended at 0; the learning rate can't be changed any more.")
            rate = 0.0
        else:
            self._state = replace(state, rate_factor=rate / usual)
        self._state = replace(self._state, rate_changes=(state.rate_changes or 0) + 1)
        return ev.LearningRateChanged(step=self.step, learning_rate=rate)

    def _set_unsaved_rates(self) -> None:
        """Set the rates again that a killed session had set after this step."""
        while self._rates and self._rates[0].step <= self.step:
            changed = self._with_rate(self._rates.popleft().learning_rate)
            # The journal still has the changes after the step that the resume starts from.
            if changed.step > self.start_step:
                self._emit(changed)

    def prepare(self) -> None:
        """Load data and model and restore the checkpoint. Raises an `MlxftError`."""
        found, earlier = self._checkpoint, self._saver.earlier_adapter
        if found is not None:
            self._finish_save(found)
        for refusal in self._refusals:
            self._emit(ev.Warned(message=refusal))
        if earlier is not None:
            message = (
                f"{self._directory.path}: there is no checkpoint to resume from, so training "
                f"starts from step 0; the earlier adapter is kept as {earlier.name}."
            )
            self._emit(ev.Warned(message=message))
        # More steps are no surprise: the run's total is shown everywhere.
        if found is not None and found.changes.keys() - {"iters", "hosts"}:
            self._warn(checkpoint.changed_recipe(found))
        if self._last_unsaved_rate is not None:
            self._warn(checkpoint.unsaved_rate(self._last_unsaved_rate, repeated=bool(self._rates)))
        started = self._state.started or datetime.now()
        self.prepared = prepare(
            self._recipe,
            found,
            self._emit,
            self._may_continue,
            started,
            self._directory.path,
            self._ranks,
        )
        if self.prepared is not None:
            self._compare_data(self.prepared.train.checksum, started)

    def _finish_save(self, found: Checkpoint) -> None:
        """Do what a killed save has left undone after its checkpoint."""
        checkpoint.finish_save(self._directory, self._recipe, found)
        saved = saved_event(self._directory, found.state, found.path)
        if not self._earlier.has_checkpoint(saved):
            self._emit(saved)

    def _compare_data(self, checksum: int, started: datetime) -> None:
        """Note which records are trained since when, with a warning if they have changed."""
        before = self._state.data
        if before is not None and before != checksum:
            self._warn(
                f"{self._recipe.data}: the training set has changed since this step; records come "
                "in a different order from now on."
            )
        count = self._ranks.count if self._ranks else 1
        if self.start_step and count != self._state.ranks:
            self._warn(
                f"{_processes(self._state.ranks)} trained until this step, {_processes(count)} "
                "from now on: sums are made in another order, so the losses agree with those of "
                "an unchanged run to about 1e-5."
            )
        was_saved = self._saver.is_saved(self._state)
        self._state = replace(self._state, data=checksum, started=started, ranks=count)
        if was_saved:
            self._saver.accept(self._state)

    def run(self) -> ev.RunFinished:
        """Train until the last step or a stop, save, and sum up.

        Raises `RunError` where the numbers or the memory fail, `StorageError` on a full disk; the
        last checkpoint is intact then.
        """
        self._account.start()
        if self.prepared is not None:
            with training_limits(self.prepared.run_ahead_limit):
                self._train(self.prepared)
            self._remember_peak(self.prepared)
        return self.summary()

    def _remember_peak(self, prepared: Prepared) -> None:
        """Keep the peak of this and earlier sessions, unless no step was measured."""
        earlier = self._checkpoint.state.spent if self._checkpoint else None
        if self.step > self.start_step or (earlier and earlier.training_peak):
            peak = self._account.total(self._state).training_peak
            remember_peak(self._directory, self._recipe, prepared, peak)

    def summary(self) -> ev.RunFinished:
        """How the run went until now, including earlier sessions."""
        return summary(
            self._state,
            self._account.total(self._state),
            end_reason(self._state, self._recipe),
            folder=str(self._directory.path),
        )

    def answer_together(self, asked: Sequence[Asked]) -> tuple[Answer, ...]:
        """Answer several questions at once from within a safe point; the run is not changed.

        Raises `EngineError` before the model is loaded, `ModelError` for a bad question or an
        adapter that doesn't fit.
        """
        if self.prepared is None:
            raise EngineError("The model is still loading; ask again in a moment.")
        return answering.answer_together(
            self.prepared, asked, trust_remote_code=self._recipe.trust_remote_code
        )

    def _train(self, prepared: Prepared) -> None:
        recipe = self._recipe
        # A stop may have skipped these.
        self._validate_and_sample(prepared)
        self._save_new_best(prepared)
        while self.step < recipe.iters and not self._state.has_lost_patience(self._recipe):
            self._set_unsaved_rates()
            self._follow_requests(prepared)
            if self._stop:
                break
            self._kernels.take(prepared.stepper, self.step + 1)
            self._train_step(prepared)
            self._kernels.begin(prepared.kernels)
            if self.step % recipe.steps_per_report == 0 or self.step == recipe.iters:
                self._report(prepared)
            self._validate_and_sample(prepared)
            if self._state.has_lost_patience(self._recipe) and self._state.window.steps:
                self._report(prepared)
            if self.step == recipe.iters or self.step % recipe.save_every == 0:
                self._save(prepared)
            self._save_new_best(prepared)
        self._report_rest(prepared)
        self._save_unsaved(prepared)

    def _validate_and_sample(self, prepared: Prepared) -> None:
        """Do what the recipe schedules after this step, unless it is done."""
        if self._state.is_validation_due(self._recipe):
            self._validate(prepared)
        if self.step == 0 or self._state.sample_waits:
            self._answer_sample(prepared)

    def _follow_requests(self, prepared: Prepared) -> None:
        """Visit the safe point and follow requests until there are no more."""
        self._visit_safe_point(prepared)
        while self._validation_requested and not self._stop:
            self._validation_requested = False
            self._validate(prepared)
            self._save_new_best(prepared)
            self._visit_safe_point(prepared)

    def _visit_safe_point(self, prepared: Prepared | None = None) -> None:
        """Let requests arrive, and save as often as requested."""
        self._at_safe_point()
        while self._save_requested:
            self._save_requested = False
            if prepared is not None:
                self._save(prepared)
            self._at_safe_point()

    def _may_continue(self) -> bool:
        self._visit_safe_point()
        return not self._stop

    def _train_step(self, prepared: Prepared) -> None:
        recipe, state, stepper = self._recipe, self._state, prepared.stepper
        step = state.step + 1
        batch = prepared.train.plan.batch(step)
        rate = prepared.schedule(state.updates) * state.rate_factor
        started = time.perf_counter()
        with self._surviving(prepared):
            result = stepper.add_gradient(step, stepper.arrays(prepared.train, batch))
        if not result.is_finite:
            discarded = not self._save_before_failure(prepared)
            raise failures.not_finite(
                step, batch, result, prepared, saved_step=self._saver.step, discarded=discarded
            )
        is_update_step = step % recipe.grad_accumulation_steps == 0 or step == recipe.iters
        if is_update_step:
            try:
                with self._checked_update(prepared, rate):
                    stepper.update(rate)
            except (RuntimeError, MemoryError) as error:
                raise self._failure(prepared, error) from error
        clear_cache(recipe.clear_cache_threshold)
        seconds = time.perf_counter() - started
        self._state = state.after_step(
            result,
            seconds=seconds,
            is_update=is_update_step,
            sample_due=step % recipe.sample_every == 0 or step == recipe.iters,
            validation_due=validates_after(step, recipe) and bool(self._validation_batches()),
        )
        self._emit(
            ev.StepFinished(
                step=step,
                loss=result.loss,
                tokens=result.tokens,
                seconds=seconds,
                learning_rate=rate,
                gradient_norm=result.gradient_norm,
                preference=result.preference,
            )
        )

    @contextmanager
    def _checked_update(self, prepared: Prepared, rate: float) -> Iterator[None]:
        """If an update is the run's first, see that it changes what the recipe names."""
        if not self._is_first_update or not rate:
            yield
            return
        model = prepared.loaded.model
        before = FirstUpdate.before(model, prepared.stepper.accumulated.total)
        yield
        for note in before.notes(model):
            self._warn(note)
        self._is_first_update = False

    @contextmanager
    def _surviving(self, prepared: Prepared) -> Iterator[None]:
        """If MLX or the model's own code fails, save the run as it was and raise `RunError`."""
        model = prepared.loaded.model
        # A failure half-way leaves arrays behind that can't be computed any more.
        trained = named_arrays(model.trainable_parameters())
        try:
            yield
        except Exception as error:  # A model's own code may raise anything.
            model.load_weights(list(trained.items()), strict=False)
            with suppress(StorageError, RuntimeError, MemoryError):
                self._save_unsaved(prepared)
            raise self._failure(prepared, error) from error

    def _failure(self, prepared: Prepared, error: Exception) -> Exception:
        if self._ranks is not None and self._ranks.loss is not None:
            cause = error.cause if isinstance(error, RunError) else None
            return failures.rank_lost(self.step + 1, self._ranks.loss, cause, self._saver.step)
        return failures.mlx_failed(
            self.step + 1, error, self._recipe, prepared, saved_step=self._saver.step
        )

    def _report(self, prepared: Prepared) -> None:
        """Report the steps since the last report."""
        updates = max(0, self._state.updates - 1)
        rate = prepared.schedule(updates) * self._state.rate_factor
        self._emit(report(self._state, rate))
        if self._ranks is not None:
            self._emit(ev.RanksReported(step=self.step, ranks=self._ranks.reports()))
        self._state = replace(
            self._state, final_loss=self._state.window.loss, window=ReportWindow()
        )

    def _report_rest(self, prepared: Prepared) -> None:
        """Report the steps before a stop, without ending the window: a resume continues it."""
        window = self._state.window
        if window.steps and self.step > self.start_step:
            self._report(prepared)
            self._state = replace(self._state, window=window)

    def _validate(self, prepared: Prepared) -> None:
        """Compute the validation loss, unless this step has it; a stop cancels it."""
        valid, batches = prepared.valid, self._validation_batches()
        if not batches or self._state.validated_step == self.step:
            return

        def may_continue(done: int) -> bool:
            self._emit(ev.ProgressMade(stage="validating", done=done, total=len(batches)))
            self.is_validating = True
            self._visit_safe_point(prepared)
            self.is_validating = False
            return not self._stop and not self._skip

        def loss_of(batch: Batch) -> BatchLoss:
            with self._surviving(prepared):
                found = prepared.stepper.loss(prepared.stepper.arrays(valid, batch))
            clear_cache(self._recipe.clear_cache_threshold)
            return found

        with self._skippable(self.step == 0):
            found = validate(batches, loss_of, may_continue)
            skipped = self._skip
        if skipped:
            self._emit(ev.WorkSkipped(step=self.step, stage="validating"))
        elif found is not None:
            self._accept_validation(found, prepared.stepper.preference_of(found.figures))
        elif self._state.is_validation_due(self._recipe):
            self._warn(
                f"The stop has cancelled the validation of step {self.step}; resume the run to "
                "validate."
            )

    def _validation_batches(self) -> Sequence[Batch]:
        assert self.prepared is not None
        return validation_batches(self.prepared.valid.plan, self._recipe.val_batches)

    def _accept_validation(self, found: Validation, preference: ev.Preference | None) -> None:
        self._state = self._state.after_validation(
            found.loss, is_scheduled=self._state.is_validation_due(self._recipe)
        )
        if not math.isfinite(found.loss):
            remedy = "lower learning_rate" if self.step else "check the model's weights"
            self._warn(f"The validation loss is {found.loss}; {remedy}.")
            return
        self._emit(
            ev.ValidationFinished(
                step=self.step,
                loss=found.loss,
                tokens=found.tokens,
                seconds=found.seconds,
                best=self._state.best_step == self.step,
                preference=preference,
            )
        )

    def _answer_sample(self, prepared: Prepared) -> None:
        """Answer the recipe's sample prompt, if there is one.

        A stop cancels it; after a pause or a question it starts over.
        """
        prompt = self._recipe.sample_prompt
        if not prompt:
            self._state = replace(self._state, sample_waits=False)
            return
        answer = None
        with self._skippable(True):
            while answer is None and not self._skip:
                if self._stop:
                    return
                try:
                    answer = self._sample(prepared, prompt)
                except ModelError as error:
                    self._warn(f"The sample prompt can't be answered: {error}")
                    break
                if answer is None:
                    self._follow_requests(prepared)
            skipped = self._skip
        self._state = replace(self._state, sample_waits=False)
        if answer is not None:
            self._emit(
                ev.SampleAnswered(
                    step=self.step,
                    prompt=prompt,
                    text=answer.text,
                    tokens=answer.generated_tokens,
                    seconds=answer.seconds,
                )
            )
        elif skipped:
            self._emit(ev.WorkSkipped(step=self.step, stage="sampling"))

    def _sample(self, prepared: Prepared, prompt: str) -> Answer | None:
        """The answer to the sample prompt, shown as it grows; None if a command is waiting."""

        def show(text: str) -> None:
            self._emit(ev.ProgressMade(stage="sampling", done=len(text), note=text))

        self._emit(ev.ProgressMade(stage="sampling", done=0))
        return answering.answer_sample(prepared, prompt, show, self._is_called)

    @contextmanager
    def _skippable(self, can_be: bool) -> Iterator[None]:
        """Let a request skip what is done meanwhile, if it can be skipped."""
        before, self._skip = self._skip, False if can_be else None
        try:
            yield
        finally:
            self._skip = before

    def _save_before_failure(self, prepared: Prepared) -> bool:
        """Save the steps before one that is not finite; False if the run had diverged by then.

        Diverged weights would fail again as soon as they are resumed.
        """
        first_loss = self._state.first_loss
        if first_loss is None or self._saver.is_saved(self._state):
            return True
        with suppress(StorageError, RuntimeError, MemoryError):
            batch = prepared.train.plan.batch(self.step)
            last = prepared.stepper.arrays(prepared.train, batch)
            # Not `>`: the loss may be NaN.
            if not prepared.stepper.loss(last).loss <= first_loss:
                return False
            self._save_unsaved(prepared)
        return True

    def _save_unsaved(self, prepared: Prepared) -> None:
        if self.step and not self._saver.is_saved(self._state):
            self._save(prepared)

    def _save_new_best(self, prepared: Prepared) -> None:
        """Save the best validation's step at once, so that no resume goes back before it."""
        if self._state.best_step == self.step != self._saver.best_step:
            self._save(prepared)

    def _save(self, prepared: Prepared) -> None:
        self._state = replace(self._state, spent=self._account.total(self._state))
        self._emit(self._saver.save(prepared, self._state))

    def _warn(self, message: str) -> None:
        self._emit(ev.Warned(message=message, step=self.step or None))


def _processes(count: int) -> str:
    return f"{count} processes" if count > 1 else "1 process"
