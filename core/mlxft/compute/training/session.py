"""The training of one run: from its recipe to its adapter."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import mlx.core as mx
import msgspec
from mlx_lm.utils import maybe_set_recommended_wired_limit

from mlxft import recipe as recipes
from mlxft.compute import backend
from mlxft.compute.arrays import named_arrays
from mlxft.compute.generation import answers
from mlxft.compute.generation.answers import Listener, Part
from mlxft.compute.generation.prompt_cache import PromptCache
from mlxft.compute.models import variants
from mlxft.compute.models.variants import Variant, Variants
from mlxft.compute.tokenization import first_line
from mlxft.compute.training import checkpoint, out_of_memory
from mlxft.compute.training.checkpoint import Spent, TrainingState
from mlxft.compute.training.peak_history import remember_peak
from mlxft.compute.training.preparation import Prepared, prepare
from mlxft.compute.training.step import StepResult
from mlxft.conversation.messages import Answer, Message, Question, Sampling
from mlxft.data.batch_plan import Batch
from mlxft.errors import EngineError, FailureCause, ModelError, RunError, StorageError
from mlxft.recipe import Recipe
from mlxft.runs import events as ev
from mlxft.runs.directory import RunDirectory
from mlxft.runs.events import AnyEvent

GPU_WATCHDOG = "Impacting Interactivity"
"""Part of Metal's error when macOS ends GPU work that blocked the display."""

SAMPLE_TOKENS = 128
"""Longest answer to the sample prompt: the run waits for it."""


@dataclass
class _Window:
    """The steps since the last report."""

    losses: list[float] = field(default_factory=list)
    tokens: int = 0
    seconds: float = 0.0

    @property
    def loss(self) -> float:
        return sum(self.losses) / len(self.losses)


class TrainingSession:
    """Trains a run from its newest whole checkpoint, or from the start.

    Everything happens in the thread that calls `prepare` and `run`. `at_safe_point` is called
    where nothing is half done; from in it, a question may be answered and requests be made, which
    are followed when it returns. `is_called` tells whether a visit can't wait for a sample's end.
    """

    def __init__(
        self,
        recipe: Recipe,
        directory: RunDirectory,
        emit: Callable[[AnyEvent], object],
        at_safe_point: Callable[[], None],
        is_called: Callable[[], bool] = lambda: False,
    ) -> None:
        self._recipe = recipe
        self._directory = directory
        self._emit = emit
        self._at_safe_point = at_safe_point
        self._is_called = is_called
        checkpoint.clear_leftovers(directory)
        self._checkpoint, self._refusals = checkpoint.newest(directory, recipe)
        self._state = self._checkpoint.state if self._checkpoint else TrainingState()
        self.start_step = self._state.step
        self._spent_before = self._state.spent or Spent(since=self.start_step)
        self._update_state(spent=self._spent_before)
        if self._checkpoint is not None and checkpoint.has_new_rate(self._checkpoint):
            self._update_state(rate_factor=1.0)
        self._saved = self._state if self._checkpoint else None
        starts_over = self._checkpoint is None and directory.adapter_file.exists()
        self._earlier = checkpoint.earlier_adapter(directory) if starts_over else None
        self._prepared: Prepared | None = None
        self._window = _Window()
        self._started: float | None = None
        self._left_off = False
        """Whether a stop has cut the closing validation short."""
        self._stop = self._save_requested = self._validation_requested = False
        self.is_validating = False
        """Whether the present safe point is between two batches of a validation."""

    @property
    def step(self) -> int:
        """The last step that was trained."""
        return self._state.step

    @property
    def learning_rate(self) -> float:
        """The recipe's rate as it was changed by hand since."""
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

    def set_learning_rate(self, value: float, was: float = 0.0) -> None:
        """Use this rate from the next update on; a schedule goes on from there in proportion.

        Where it `was` another, the rate as it is now is changed as much as that would have been.
        A schedule that has come to its end at 0 stays there, and that is told. Raises `RecipeError`
        for a rate out of range.
        """
        prepared = self._prepared
        scheduled = prepared.schedule(self._state.updates) if prepared else 0.0
        usual = scheduled or self._recipe.learning_rate or 1.0
        wanted = usual * self._state.rate_factor * value / was if was else value
        rate = float(recipes.check(recipes.find("learning_rate"), wanted))
        if prepared and not scheduled and not prepared.schedule(self._state.updates + 1):
            self._warn("The schedule stands at 0 from here on; no learning rate can be set.")
            rate = 0.0
        else:
            self._update_state(rate_factor=rate / usual)
        self._emit(ev.LearningRateChanged(step=self.step, learning_rate=rate))

    def prepare(self) -> None:
        """Bring data and model into memory and go back to the checkpoint.

        Raises an `MlxftError`.
        """
        if self._checkpoint is not None:
            checkpoint.align_best(self._directory, self._recipe, self._state)
        for refusal in self._refusals:
            self._emit(ev.Warned(message=refusal))
        if self._earlier is not None:
            message = (
                f"{self._directory.path}: there is no checkpoint to go on from, so training starts "
                f"from step 0; the adapter trained before is kept as {self._earlier.name}."
            )
            self._emit(ev.Warned(message=message))
        if self._checkpoint is not None and self._checkpoint.changes:
            self._warn(checkpoint.changed_recipe(self._checkpoint))
        self._prepared = prepare(self._recipe, self._checkpoint, self._emit, self._keeps_going)
        if self._prepared is not None:
            self._look_at_data(self._prepared.train.checksum)

    def _look_at_data(self, checksum: int) -> None:
        """Remember which records are trained, and say so where they are others than before."""
        before = self._state.data
        if before is not None and before != checksum:
            self._warn(
                f"{self._recipe.data}: the training set was changed after this step; the records "
                "come in another order from here on."
            )
        saved = self._saved == self._state
        self._update_state(data=checksum)
        # It is no step of training that would have to be saved.
        self._saved = self._state if saved else self._saved

    def run(self) -> ev.RunFinished:
        """Train until the last step or a stop, save, and tell how it went.

        Raises `RunError` where the numbers or the memory fail, `StorageError` on a full disk; the
        last checkpoint is whole then.
        """
        self._started = time.perf_counter()
        if self._prepared is not None:
            with _wired_limit(), backend.bounded_memory(self._prepared.run_ahead_limit):
                self._train(self._prepared)
            self._remember_peak(self._prepared)
        return self.summary()

    def summary(self) -> ev.RunFinished:
        """How the run went until now, its earlier sessions included."""
        state, spent = self._state, self._spent
        return ev.RunFinished(
            reason=self._reason,
            step=state.step,
            first_loss=state.first_loss,
            final_loss=state.final_loss,
            best_validation_loss=state.best_loss,
            best_validation_step=state.best_step,
            tokens_per_second=spent.tokens / spent.step_seconds if spent.step_seconds else 0.0,
            trained_tokens=state.trained_tokens,
            peak_memory=spent.peak,
            seconds=spent.seconds,
            adapter_path=str(self._directory.path),
            since_step=spent.since,
        )

    @property
    def _spent(self) -> Spent:
        """What the run has taken until now."""
        before, spent = self._spent_before, self._state.spent
        assert spent is not None
        here = time.perf_counter() - self._started if self._started is not None else 0.0
        peak = max(before.peak, backend.memory().peak)
        return msgspec.structs.replace(spent, seconds=before.seconds + here, peak=peak)

    def _remember_peak(self, prepared: Prepared) -> None:
        """Keep the peak that training alone has made, for the estimates to come."""
        if self.step > self.start_step:
            remember_peak(self._directory, self._recipe, prepared, backend.training_peak())

    @property
    def _reason(self) -> Literal["completed", "early_stopped", "stopped"]:
        """Why there is no further step."""
        if self.step >= self._recipe.iters:
            return "stopped" if self._left_off else "completed"
        return "early_stopped" if self._is_past_its_best else "stopped"

    @property
    def _is_past_its_best(self) -> bool:
        """Whether as many validations in a row as the recipe allows were no best one."""
        patience = self._recipe.early_stopping
        return 0 < patience <= self._state.validations_since_best

    @property
    def _validation_is_due(self) -> bool:
        step = self.step
        return step > 0 and (step % self._recipe.steps_per_eval == 0 or step == self._recipe.iters)

    def answer(
        self, question: Question, on_text: Callable[[str], None], cancelled: Callable[[], bool]
    ) -> Answer:
        """Answer with the model in memory, from within a safe point; the run is not changed.

        Raises `EngineError` while there is no model yet, `ModelError` for a bad question.
        """
        return self.answer_together([(question, None, Listener(on_text, cancelled))])[0]

    def answer_together(
        self, asked: Sequence[tuple[Question, Path | None, Listener]]
    ) -> tuple[Answer, ...]:
        """The same of several questions, a token of each in turn.

        Each is answered by the adapter in memory, by the base, or by a saved adapter that is put on
        the weights in memory meanwhile. Raises `EngineError` while there is no model yet,
        `ModelError` for a bad question or an adapter that doesn't fit.
        """
        if self._prepared is None:
            raise EngineError("The model is still being loaded; ask again in a moment.")
        loaded, path = self._prepared.loaded, self._prepared.path
        others = any(adapter or not question.use_adapter for question, adapter, _ in asked)
        trained = named_arrays(loaded.model.trainable_parameters()) if others else {}
        together = variants.of_training(loaded, trained, path, self._recipe.trust_remote_code)
        with _unchanged(together), backend.beside_training():
            present = together.present
            parts = [
                Part(question, _chosen(together, present, question, adapter), back, PromptCache())
                for question, adapter, back in asked
            ]
            return answers.generate_together(together, self._prepared.tokenizer, parts)

    def _train(self, prepared: Prepared) -> None:
        recipe = self._recipe
        # A stop may have left these off.
        self._validate_and_sample(prepared)
        self._save_a_new_best(prepared)
        while self.step < recipe.iters and not self._is_past_its_best:
            self._follow_requests(prepared)
            if self._stop:
                break
            self._train_step(prepared)
            if self.step % recipe.steps_per_report == 0:
                self._report()
            self._validate_and_sample(prepared)
            if self.step == recipe.iters or self.step % recipe.save_every == 0:
                self._save(prepared)
            self._save_a_new_best(prepared)
        self._report()
        self._save_what_is_new(prepared)

    def _validate_and_sample(self, prepared: Prepared) -> None:
        """Do what the recipe asks for after the present step, unless it was done."""
        if self._validation_is_due:
            self._validate(prepared)
        if self.step == 0 or self._state.sample_waits:
            self._answer_sample(prepared)

    def _follow_requests(self, prepared: Prepared) -> None:
        """Let requests come in, and follow them until there are no more."""
        self._visit_safe_point(prepared)
        while self._validation_requested and not self._stop:
            self._validation_requested = False
            self._validate(prepared)
            self._save_a_new_best(prepared)
            self._visit_safe_point(prepared)

    def _visit_safe_point(self, prepared: Prepared | None = None) -> None:
        """Let requests come in, and save until that is not asked for any more."""
        self._at_safe_point()
        while self._save_requested:
            self._save_requested = False
            if prepared is not None:
                self._save(prepared)
            self._at_safe_point()

    def _keeps_going(self) -> bool:
        self._visit_safe_point()
        return not self._stop

    def _train_step(self, prepared: Prepared) -> None:
        recipe, state, stepper = self._recipe, self._state, prepared.stepper
        step = state.step + 1
        batch = prepared.train.plan.batch(step)
        rate = prepared.schedule(state.updates) * state.rate_factor
        started = time.perf_counter()
        with self._surviving(prepared):
            result = stepper.add_gradient(step, prepared.train.arrays(batch))
        if not result.is_finite:
            given_up = self._save_sound_steps(prepared)
            raise self._diverged(step, batch, result, prepared, given_up)
        is_update_step = step % recipe.grad_accumulation_steps == 0 or step == recipe.iters
        if is_update_step:
            try:
                stepper.update(rate)
            except (RuntimeError, MemoryError) as error:
                raise self._broken(prepared, error) from error
        _clear_cache(recipe.clear_cache_threshold)
        seconds = time.perf_counter() - started
        self._update_state(
            step=step,
            updates=state.updates + is_update_step,
            trained_tokens=state.trained_tokens + result.tokens,
            first_loss=result.loss if state.first_loss is None else state.first_loss,
            sample_waits=step % recipe.sample_every == 0 or step == recipe.iters,
        )
        self._count(result, seconds)
        self._emit(
            ev.StepFinished(
                step=step,
                loss=result.loss,
                tokens=result.tokens,
                seconds=seconds,
                learning_rate=rate,
                gradient_norm=result.gradient_norm,
            )
        )

    def _count(self, result: StepResult, seconds: float) -> None:
        self._window.losses.append(result.loss)
        self._window.tokens += result.tokens
        self._window.seconds += seconds
        spent = self._state.spent
        assert spent is not None
        self._update_state(
            spent=msgspec.structs.replace(
                spent,
                tokens=spent.tokens + result.tokens,
                step_seconds=spent.step_seconds + seconds,
            )
        )

    def _diverged(
        self, step: int, batch: Batch, result: StepResult, prepared: Prepared, given_up: str
    ) -> RunError:
        lines = ", ".join(str(line) for line in prepared.train.lines(batch)[:8])
        return RunError(
            f"Step {step}: the loss is {result.loss} and its gradient {result.gradient_norm} on "
            f"{prepared.train.split.path} lines {lines}; the step was discarded, lower "
            f"learning_rate or fix these records{self._way_back()}.{given_up}",
            cause="not_finite",
        )

    @contextmanager
    def _surviving(self, prepared: Prepared) -> Iterator[None]:
        """Save the run as it was before, should MLX fail at what leaves it unchanged."""
        model = prepared.loaded.model
        # What fails half-way leaves arrays behind that can't be computed any more.
        trained = named_arrays(model.trainable_parameters())
        try:
            yield
        except (RuntimeError, MemoryError) as error:
            model.load_weights(list(trained.items()), strict=False)
            with suppress(StorageError, RuntimeError, MemoryError):
                self._save_what_is_new(prepared)
            raise self._broken(prepared, error) from error

    def _broken(self, prepared: Prepared, error: Exception) -> RunError:
        reason, step = first_line(error), self.step + 1
        if isinstance(error, MemoryError) or "alloc" in reason or "memory" in reason.lower():
            remedy = out_of_memory.remedy(self._recipe, prepared.loaded, prepared.train.longest)
            return RunError(
                f"Step {step}: the memory is used up ({reason}); {remedy}{self._way_back()}.",
                cause="out_of_memory",
            )
        cause: FailureCause | None = "gpu_watchdog" if GPU_WATCHDOG in reason else None
        return RunError(f"Step {step}: MLX failed ({reason}){self._way_back()}.", cause)

    def _way_back(self) -> str:
        if self._saved is None:
            return ""
        return f", then resume the run from step {self._saved.step}"

    def _report(self) -> None:
        """Sum up the steps since the last report, if there are any."""
        window, self._window = self._window, _Window()
        if not window.losses:
            return
        self._update_state(final_loss=window.loss)
        state, memory = self._state, backend.memory()
        self._emit(
            ev.TrainReported(
                step=state.step,
                loss=window.loss,
                learning_rate=self._current_rate(),
                steps_per_second=len(window.losses) / window.seconds,
                tokens_per_second=window.tokens / window.seconds,
                trained_tokens=state.trained_tokens,
                peak_memory=memory.peak,
                active_memory=memory.active,
                cache_memory=memory.cache,
            )
        )

    def _current_rate(self) -> float:
        """The rate of the last update."""
        assert self._prepared is not None
        state = self._state
        return self._prepared.schedule(max(0, state.updates - 1)) * state.rate_factor

    def _validate(self, prepared: Prepared) -> None:
        """The loss of the validation batches with the weights as they are; a stop leaves it off."""
        valid, recipe = prepared.valid, self._recipe
        done_before = self._state.validated_step == self.step
        if not valid.plan.trainable or recipe.val_batches == 0 or done_before:
            return
        batches = valid.plan.epoch(0)
        batches = batches if recipe.val_batches < 0 else batches[: recipe.val_batches]
        total = tokens = 0.0
        seconds = 0.0
        for done, batch in enumerate(batches):
            self._progress("validating", done, len(batches))
            self.is_validating = True
            self._visit_safe_point(prepared)
            self.is_validating = False
            if self._stop:
                self._leave_validation_off()
                return
            started = time.perf_counter()
            with self._surviving(prepared):
                loss, count = prepared.stepper.loss(valid.arrays(batch))
            _clear_cache(recipe.clear_cache_threshold)
            seconds += time.perf_counter() - started
            total, tokens = total + loss * count, tokens + count
        self._judge(total / tokens, int(tokens), seconds, prepared)

    def _leave_validation_off(self) -> None:
        if self._validation_is_due:
            self._left_off = self.step == self._recipe.iters
            self._warn(
                f"The validation after step {self.step} was left off by the stop; resume the run "
                "to make it up."
            )

    def _judge(self, loss: float, tokens: int, seconds: float, prepared: Prepared) -> None:
        state = self._state
        best = math.isfinite(loss) and (state.best_loss is None or loss < state.best_loss)
        if best:
            self._update_state(best_loss=loss, best_step=self.step)
        since_best = state.validations_since_best + self._validation_is_due
        self._update_state(
            validated_step=self.step, validations_since_best=0 if best else since_best
        )
        if not math.isfinite(loss):
            self._warn(f"The validation loss is {loss}; the run goes on, lower learning_rate.")
            return
        self._emit(
            ev.ValidationFinished(
                step=self.step, loss=loss, tokens=tokens, seconds=seconds, best=best
            )
        )

    def _answer_sample(self, prepared: Prepared) -> None:
        """Answer the recipe's sample prompt with the weights as they are, if there is one.

        A stop leaves it off; after a pause it begins anew.
        """
        prompt = self._recipe.sample_prompt
        answer = None
        while prompt and answer is None:
            if self._stop:
                return
            self._progress("sampling", 0, None)
            try:
                answer = self._sample(prepared, prompt)
            except ModelError as error:
                self._warn(f"The sample prompt can't be answered: {error}")
                break
            if answer is None:
                self._follow_requests(prepared)
        self._update_state(sample_waits=False)
        if prompt and answer is not None:
            self._emit(
                ev.SampleAnswered(
                    step=self.step,
                    prompt=prompt,
                    text=answer.text,
                    tokens=answer.generated_tokens,
                    seconds=answer.seconds,
                )
            )

    def _sample(self, prepared: Prepared, prompt: str) -> Answer | None:
        """The prompt's answer; None where it was cut off. Raises `ModelError`."""
        question = Question((Message("user", prompt),), Sampling(max_tokens=SAMPLE_TOKENS))
        listener = Listener(lambda _: None, self._is_called)
        with backend.beside_training():
            answer = answers.generate(prepared.loaded, prepared.tokenizer, question, listener)
        return None if answer.finish_reason == "cancelled" else answer

    def _save_sound_steps(self, prepared: Prepared) -> str:
        """Save before the run is ended by records, as long as the weights still know the last ones.

        Weights that have run away would fail again as soon as they are resumed; the sentence that
        says so is returned.
        """
        first_loss = self._state.first_loss
        if first_loss is None or self._state == self._saved:
            return ""
        with suppress(StorageError, RuntimeError, MemoryError):
            last = prepared.train.arrays(prepared.train.plan.batch(self.step))
            if prepared.stepper.loss(last)[0] <= first_loss:
                self._save_what_is_new(prepared)
                return ""
            saved = self._saved.step if self._saved else 0
            return f" What followed step {saved} is not kept, the loss had run away by then."
        return ""

    def _save_what_is_new(self, prepared: Prepared) -> None:
        if self.step and self._state != self._saved:
            self._save(prepared)

    def _save_a_new_best(self, prepared: Prepared) -> None:
        """Have the best validation's step on disk, so that no resume goes back before it."""
        saved_best = self._saved.best_step if self._saved else None
        if self._state.best_step == self.step != saved_best:
            self._save(prepared)

    def _save(self, prepared: Prepared) -> None:
        if self._earlier is not None:
            checkpoint.keep_adapter(self._directory, self._earlier)
            self._earlier = None
        window = self._window
        self._update_state(
            spent=self._spent, final_loss=window.loss if window.losses else self._state.final_loss
        )
        started = time.perf_counter()
        path = checkpoint.save(
            self._directory,
            self._recipe,
            self._state,
            prepared.loaded.model,
            prepared.optimizer,
            prepared.stepper.waiting,
        )
        self._saved = self._state
        relative = str(path.relative_to(self._directory.path))
        best = self._state.best_step == self.step
        seconds = time.perf_counter() - started
        saved = ev.CheckpointSaved(step=self.step, path=relative, best=best, seconds=seconds)
        self._emit(saved)

    def _update_state(self, **changes: Any) -> None:
        self._state = msgspec.structs.replace(self._state, **changes)

    def _progress(self, stage: Any, done: int, total: int | None) -> None:
        self._emit(ev.ProgressMade(stage=stage, done=done, total=total))

    def _warn(self, message: str) -> None:
        self._emit(ev.Warned(message=message, step=self.step or None))


def _chosen(
    together: Variants, present: Variant, question: Question, adapter: Path | None
) -> Variant:
    """Who answers: the base, a saved adapter, or the one that is trained."""
    if not question.use_adapter:
        return variants.BASE
    return together.saved(adapter)[0] if adapter else present


@contextmanager
def _unchanged(together: Variants) -> Iterator[None]:
    """Have the model end as what it is now, and in the mode it is in."""
    model, before = together.loaded.model, together.present
    was_training = model.training
    try:
        yield
    finally:
        together.use(before)
        model.train(was_training)


def _clear_cache(threshold: int) -> None:
    if mx.get_cache_memory() > threshold:
        mx.clear_cache()


@contextmanager
def _wired_limit() -> Iterator[None]:
    """Keep the model's memory wired on Metal as mlx_lm advises, and no longer than needed."""
    before = maybe_set_recommended_wired_limit()
    try:
        yield
    finally:
        if before is not None:
            mx.synchronize()
            mx.set_wired_limit(before)
