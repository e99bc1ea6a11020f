"""Why a step has failed, in one sentence with its place and remedy."""

from __future__ import annotations

from typing import Final

from mlxft.compute.tokenization import first_line
from mlxft.compute.training import out_of_memory
from mlxft.compute.training.preparation import Prepared
from mlxft.compute.training.step import StepResult
from mlxft.data.batch_plan import Batch
from mlxft.errors import FailureCause, RunError
from mlxft.recipe import Recipe
from mlxft.runs.death import cause_in

_LINES_NAMED: Final = 8


def not_finite(
    step: int,
    batch: Batch,
    result: StepResult,
    prepared: Prepared,
    *,
    saved_step: int | None,
    discarded: bool,
) -> RunError:
    """The step's loss or gradient is NaN or infinite.

    `discarded` is whether the run had diverged before, so that nothing since `saved_step` is kept.
    """
    lines = ", ".join(str(line) for line in prepared.train.lines(batch)[:_LINES_NAMED])
    lost = f" Steps after {saved_step or 0} are discarded: the run had diverged." * discarded
    return RunError(
        f"Step {step}: the loss is {result.loss} and the gradient norm {result.gradient_norm} on "
        f"{prepared.train.split.path} lines {lines}; the step was discarded, lower "
        f"learning_rate or fix these records{_resume_hint(saved_step)}.{lost}",
        cause="not_finite",
    )


def mlx_failed(
    step: int, error: Exception, recipe: Recipe, prepared: Prepared, *, saved_step: int | None
) -> RunError:
    """MLX or the model's own code raised an error: most often memory ran out."""
    reason, hint = first_line(error), _resume_hint(saved_step)
    if out_of_memory.is_meant_by(error):
        remedy = out_of_memory.remedy(recipe, prepared.loaded, prepared.train.longest)
        return RunError(
            f"Step {step}: out of memory ({reason}); {remedy}{hint}.", cause="out_of_memory"
        )
    if not isinstance(error, RuntimeError):
        return RunError(
            f"Step {step}: the code of {recipe.model} failed ({type(error).__name__}: {reason})"
            f"{hint}; engine.log has the traceback."
        )
    return RunError(f"Step {step}: MLX failed ({reason}){hint}.", cause_in(reason))


def rank_lost(step: int, loss: str, cause: FailureCause | None, saved_step: int | None) -> RunError:
    """Another rank is lost, by the words of `loss`."""
    remedy = "start the run again" if saved_step is None else f"resume it from step {saved_step}"
    return RunError(f"Step {step}: {loss}; {remedy}.", cause or "rank_lost")


def _resume_hint(saved_step: int | None) -> str:
    return "" if saved_step is None else f", then resume the run from step {saved_step}"
