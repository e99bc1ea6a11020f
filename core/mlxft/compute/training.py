"""The training of one run: from its recipe to its adapter."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import mlx.core as mx
import msgspec
from mlx.utils import tree_flatten
from mlx_lm.utils import maybe_set_recommended_wired_limit

from mlxft import recipe as recipes
from mlxft.compute import adapters, backend, checkpoint, generation, models, optimizers
from mlxft.compute.batches import TokenizedSplit, tokenize_split
from mlxft.compute.checkpoint import TrainingState
from mlxft.compute.models import LoadedModel
from mlxft.compute.step import Stepper, StepResult
from mlxft.compute.tokenization import Tokenizer, first_line, load_tokenizer
from mlxft.conversation import Answer, Question
from mlxft.data.batch_plan import Batch
from mlxft.data.dataset import require_trainable
from mlxft.errors import DataError, EngineError, RunError
from mlxft.recipe import Recipe
from mlxft.runs import events as ev
from mlxft.runs.directory import RunDirectory
from mlxft.runs.events import AnyEvent

VALIDATION_SEED = 0
"""Runs of different seeds are validated on the same records."""


@dataclass
class _Window:
    """The steps since the last report."""

    losses: list[float] = field(default_factory=list)
    tokens: int = 0
    seconds: float = 0.0

    @property
    def loss(self) -> float:
        return sum(self.losses) / len(self.losses)


@dataclass(frozen=True)
class _Prepared:
    """All that a training needs in memory."""

    loaded: LoadedModel
    path: Path
    tokenizer: Tokenizer
    train: TokenizedSplit
    valid: TokenizedSplit
    stepper: Stepper
    optimizer: Any
    schedule: Callable[[int], float]


class TrainingSession:
    """Trains a run from its newest whole checkpoint, or from the start.

    Everything happens in the thread that calls `prepare` and `run`. `at_safe_point` is called
    where nothing is half done; from in it, a question may be answered and requests be made, which
    are followed when it returns.
    """

    def __init__(
        self,
        recipe: Recipe,
        directory: RunDirectory,
        emit: Callable[[AnyEvent], object],
        at_safe_point: Callable[[], None],
    ) -> None:
        self._recipe = recipe
        self._directory = directory
        self._emit = emit
        self._at_safe_point = at_safe_point
        self._checkpoint, self._refusals = checkpoint.newest(directory, recipe)
        self._state = self._checkpoint.state if self._checkpoint else TrainingState()
        self.start_step = self._state.step
        self._saved_step = self.start_step if self._checkpoint else None
        self._validated_step: int | None = None
        self._prepared: _Prepared | None = None
        self._window = _Window()
        self._final_loss: float | None = None
        self._session_tokens = 0
        self._session_seconds = 0.0
        self._stop = self._save_requested = self._validation_requested = False

    @property
    def step(self) -> int:
        """The last step that was trained."""
        return self._state.step

    def request_stop(self) -> None:
        """Save and end before the next step."""
        self._stop = True

    def request_checkpoint(self) -> None:
        """Save before the next step."""
        self._save_requested = True

    def request_validation(self) -> None:
        """Validate before the next step."""
        self._validation_requested = True

    def set_learning_rate(self, value: float) -> None:
        """Use this rate from the next update on. Raises `RecipeError` for one out of range."""
        rate = float(recipes.check(recipes.find("learning_rate"), value))
        self._update_state(manual_rate=rate)
        self._emit(ev.LearningRateChanged(step=self.step, learning_rate=rate))

    def prepare(self) -> None:
        """Bring data and model into memory and go back to the checkpoint.

        What is quickly known to be wrong is found first. Raises an `MlxftError`.
        """
        for refusal in self._refusals:
            self._emit(ev.Warned(message=refusal))
        recipe = self._recipe
        schedule, optimizer = optimizers.make_schedule(recipe), optimizers.make_optimizer(recipe)
        path = models.locate(recipe.model, self._emit)
        tokenizer = load_tokenizer(path, recipe.trust_remote_code)
        train, valid = self._tokenize(tokenizer)
        if self._stop:
            return
        loaded = self._load(path)
        stepper = self._restored_stepper(loaded.model, optimizer)
        self._prepared = _Prepared(
            loaded, path, tokenizer, train, valid, stepper, optimizer, schedule
        )
        if optimizers.ignores_learning_rate(optimizer):
            self._warn(
                f"{recipe.optimizer} takes its own step size and ignores learning_rate; "
                f"set optimizer_config to {{{recipe.optimizer}: {{relative_step: false}}}} "
                "to use it."
            )

    def run(self) -> ev.RunFinished:
        """Train until the last step or a stop, save, and tell how it went.

        Raises `RunError` where the numbers or the memory fail, `StorageError` on a full disk; the
        last checkpoint is whole then.
        """
        started = time.perf_counter()
        if self._prepared is not None:
            with _wired_limit():
                self._train(self._prepared)
        state = self._state
        seconds = self._session_seconds
        return ev.RunFinished(
            reason="completed" if state.step >= self._recipe.iters else "stopped",
            step=state.step,
            first_loss=state.first_loss,
            final_loss=self._final_loss,
            best_validation_loss=state.best_loss,
            best_validation_step=state.best_step,
            tokens_per_second=self._session_tokens / seconds if seconds else 0.0,
            trained_tokens=state.trained_tokens,
            peak_memory=backend.memory().peak,
            seconds=time.perf_counter() - started,
            adapter_path=str(self._directory.path),
        )

    def answer(
        self, question: Question, on_text: Callable[[str], None], cancelled: Callable[[], bool]
    ) -> Answer:
        """Answer with the model in memory, from within a safe point; the run is not changed.

        Raises `EngineError` while there is no model yet, `ModelError` for a bad question.
        """
        if self._prepared is None:
            raise EngineError("The model is still being loaded; ask again in a moment.")
        loaded, path = self._prepared.loaded, self._prepared.path
        trained = {name for name, _ in tree_flatten(loaded.model.trainable_parameters())}
        with (
            nullcontext()
            if question.use_adapter
            else generation.base_weights(loaded, trained, path, self._recipe.trust_remote_code)
        ):
            return generation.generate(
                loaded, self._prepared.tokenizer, question, on_text, cancelled
            )

    def _tokenize(self, tokenizer: Tokenizer) -> tuple[TokenizedSplit, TokenizedSplit]:
        recipe = self._recipe
        train_split, valid_split = require_trainable(Path(recipe.data).expanduser(), recipe)
        total = len(train_split.records) + len(valid_split.records)

        def progress_from(done: int) -> Callable[[int], None]:
            return lambda more: self._progress("tokenizing", done + more, total)

        def keep_going() -> bool:
            self._visit_safe_point()
            return not self._stop

        self._progress("tokenizing", 0, total)
        train = tokenize_split(
            tokenizer, train_split, recipe, recipe.seed, progress_from(0), keep_going
        )
        progress = progress_from(len(train_split.records))
        valid = tokenize_split(
            tokenizer, valid_split, recipe, VALIDATION_SEED, progress, keep_going
        )
        self._visit_safe_point()
        if not self._stop:
            self._report_data(train, valid)
        return train, valid

    def _report_data(self, train: TokenizedSplit, valid: TokenizedSplit) -> None:
        plan, recipe = train.plan, self._recipe
        if not plan.trainable:
            raise DataError(
                f"{train.split.path}: no record has a token to train within max_seq_length "
                f"{recipe.max_seq_length}; raise it or turn mask_prompt off."
            )
        self._emit(
            ev.DataPrepared(
                train_records=len(train.records),
                valid_records=len(valid.records),
                tokens=train.tokens,
                trained_tokens=train.trained_tokens,
                longest=train.longest,
                truncated=train.truncated,
                untrainable=plan.untrainable,
                steps_per_epoch=plan.steps_per_epoch,
                padding_share=plan.padding_share,
            )
        )
        if plan.untrainable:
            self._warn(
                f"{plan.untrainable} of {len(train.records)} records have no token to train "
                f"within max_seq_length {recipe.max_seq_length} and are left out; raise it or turn "
                "mask_prompt off."
            )
        if recipe.val_batches and not valid.plan.trainable:
            self._warn(
                f"{valid.split.path}: there is nothing to validate on; add records to it, or set "
                "val_batches to 0."
            )

    def _load(self, path: Path) -> LoadedModel:
        recipe = self._recipe
        self._progress("loading", 0, None)
        started = time.perf_counter()
        loaded = models.load(path, recipe.trust_remote_code)
        adapters.attach(loaded, recipe)
        if recipe.resume_adapter_file and self._checkpoint is None:
            adapters.start_from(loaded.model, Path(recipe.resume_adapter_file).expanduser())
        trained = tree_flatten(loaded.model.trainable_parameters())
        self._emit(
            ev.ModelLoaded(
                model=recipe.model,
                model_type=loaded.model_type,
                total_parameters=loaded.total_parameters,
                trainable_parameters=sum(array.size for _, array in trained),
                quantization=loaded.quantization,
                dtype=loaded.dtype,
                seconds=time.perf_counter() - started,
            )
        )
        return loaded

    def _restored_stepper(self, model: Any, optimizer: Any) -> Stepper:
        optimizer.init(model.trainable_parameters())
        waiting = self._checkpoint.restore(model, optimizer) if self._checkpoint else None
        recipe = self._recipe
        stepper = Stepper(model, optimizer, recipe.seed, recipe.grad_checkpoint)
        if self._checkpoint is not None:
            stepper.accumulated = waiting
            stepper.accumulated_steps = self._checkpoint.accumulated_steps
        return stepper

    def _train(self, prepared: _Prepared) -> None:
        recipe = self._recipe
        while self.step < recipe.iters:
            self._visit_safe_point(prepared)
            if self._stop:
                break
            if self._validation_requested:
                self._validation_requested = False
                self._validate(prepared)
                continue
            self._train_step(prepared)
            if self.step % recipe.steps_per_report == 0:
                self._report()
            last = self.step == recipe.iters
            if last or self.step % recipe.steps_per_eval == 0:
                self._validate(prepared)
            if last or self.step % recipe.save_every == 0:
                self._save(prepared)
        self._report()
        if self.step > self.start_step and self._saved_step != self.step:
            self._save(prepared)

    def _visit_safe_point(self, prepared: _Prepared | None = None) -> None:
        """Let requests come in, and follow them until there are no more."""
        self._at_safe_point()
        while self._save_requested:
            self._save_requested = False
            if prepared is not None:
                self._save(prepared)
            self._at_safe_point()

    def _train_step(self, prepared: _Prepared) -> None:
        recipe, state, stepper = self._recipe, self._state, prepared.stepper
        step = state.step + 1
        batch = prepared.train.plan.batch(step)
        rate = prepared.schedule(state.updates) if state.manual_rate is None else state.manual_rate
        started = time.perf_counter()
        try:
            result = stepper.add_gradient(step, *prepared.train.arrays(batch))
            if not result.is_finite:
                raise self._diverged(step, batch, result, prepared)
            ends_window = step % recipe.grad_accumulation_steps == 0 or step == recipe.iters
            if ends_window:
                stepper.update(rate)
        except (RuntimeError, MemoryError) as error:
            raise self._broken(step, error) from error
        _clear_cache(recipe.clear_cache_threshold)
        seconds = time.perf_counter() - started
        self._update_state(
            step=step,
            updates=state.updates + ends_window,
            trained_tokens=state.trained_tokens + result.tokens,
            first_loss=result.loss if state.first_loss is None else state.first_loss,
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
        self._session_tokens += result.tokens
        self._session_seconds += seconds

    def _diverged(
        self, step: int, batch: Batch, result: StepResult, prepared: _Prepared
    ) -> RunError:
        lines = ", ".join(str(line) for line in prepared.train.lines(batch)[:8])
        return RunError(
            f"Step {step}: the loss is {result.loss} and its gradient {result.gradient_norm} on "
            f"{prepared.train.split.path} lines {lines}; nothing was changed by it, lower "
            f"learning_rate or mend these records{self._way_back()}."
        )

    def _broken(self, step: int, error: Exception) -> RunError:
        reason = first_line(error)
        if isinstance(error, MemoryError) or "alloc" in reason or "memory" in reason.lower():
            return RunError(
                f"Step {step}: the memory is used up ({reason}); lower batch_size, max_seq_length "
                f"or num_layers, or turn grad_checkpoint on{self._way_back()}."
            )
        return RunError(f"Step {step}: MLX failed ({reason}){self._way_back()}.")

    def _way_back(self) -> str:
        if self._saved_step is None:
            return ""
        return f", then resume the run from step {self._saved_step}"

    def _report(self) -> None:
        """Sum up the steps since the last report, if there are any."""
        window, self._window = self._window, _Window()
        if not window.losses:
            return
        self._final_loss = window.loss
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
        if state.manual_rate is not None:
            return state.manual_rate
        return self._prepared.schedule(max(0, state.updates - 1))

    def _validate(self, prepared: _Prepared) -> None:
        """The loss of the validation batches with the weights as they are; a stop leaves it off."""
        valid, recipe = prepared.valid, self._recipe
        if not valid.plan.trainable or recipe.val_batches == 0 or self._validated_step == self.step:
            return
        batches = valid.plan.epoch(0)
        batches = batches if recipe.val_batches < 0 else batches[: recipe.val_batches]
        total = tokens = 0.0
        seconds = 0.0
        for done, batch in enumerate(batches):
            self._progress("validating", done, len(batches))
            self._visit_safe_point(prepared)
            if self._stop:
                return
            started = time.perf_counter()
            loss, count = prepared.stepper.loss(*valid.arrays(batch))
            _clear_cache(recipe.clear_cache_threshold)
            seconds += time.perf_counter() - started
            total, tokens = total + loss * count, tokens + count
        self._validated_step = self.step
        self._judge(total / tokens, int(tokens), seconds, prepared)

    def _judge(self, loss: float, tokens: int, seconds: float, prepared: _Prepared) -> None:
        best = self._state.best_loss is None or loss < self._state.best_loss
        if best:
            self._update_state(best_loss=loss, best_step=self.step)
            checkpoint.save_best(self._directory, prepared.loaded.model)
        self._emit(
            ev.ValidationFinished(
                step=self.step, loss=loss, tokens=tokens, seconds=seconds, best=best
            )
        )

    def _save(self, prepared: _Prepared) -> None:
        stepper = prepared.stepper
        path = checkpoint.save(
            self._directory,
            self._recipe,
            self._state,
            prepared.loaded.model,
            prepared.optimizer,
            (stepper.accumulated, stepper.accumulated_steps),
        )
        self._saved_step = self.step
        relative = str(path.relative_to(self._directory.path))
        best = self._state.best_step == self.step
        self._emit(ev.CheckpointSaved(step=self.step, path=relative, best=best))

    def _update_state(self, **changes: Any) -> None:
        self._state = msgspec.structs.replace(self._state, **changes)

    def _progress(self, stage: Any, done: int, total: int | None) -> None:
        self._emit(ev.ProgressMade(stage=stage, done=done, total=total))

    def _warn(self, message: str) -> None:
        self._emit(ev.Warned(message=message, step=self.step or None))


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
