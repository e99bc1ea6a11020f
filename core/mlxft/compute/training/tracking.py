"""Reports a run to wandb or swanlab through mlx_lm's callbacks."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Sequence
from typing import Any, Final

from mlx_lm.tuner import callbacks

from mlxft import recipe as recipes
from mlxft.compute.tokenization import first_line
from mlxft.errors import RecipeError
from mlxft.recipe import Recipe
from mlxft.runs import events as ev
from mlxft.runs.directory import RunDirectory
from mlxft.runs.events import AnyEvent

Emit = Callable[[AnyEvent], object]

FINISH_SECONDS: Final = 60.0
"""How long the end of a run waits for a service to upload the rest."""


class Tracker:
    """Reports a run's events to the services in the recipe's ``report_to``."""

    def __init__(self, recipe: Recipe, directory: RunDirectory) -> None:
        """Start the services, if there are any.

        Raises `RecipeError` for a service that is unknown, not installed or fails to start.
        """
        self._names = recipe.report_to or ""
        self._services = _services(recipe, directory) if self._names else None

    def reporting(self, emit: Emit) -> Emit:
        """`emit`, extended to report to the services."""
        services = self._services
        if services is None:
            return emit

        latest: list[ev.Preference] = []

        def emit_and_report(event: AnyEvent) -> None:
            emit(event)
            match event:
                case ev.StepFinished(preference=ev.Preference() as found):
                    latest.append(found)
                case ev.TrainReported():
                    own = _preference_figures(latest, "")
                    services.on_train_loss_report(_figures(event, "train_loss") | own)
                    latest.clear()
                case ev.ValidationFinished():
                    own = _preference_figures([event.preference], "val_")
                    services.on_val_loss_report(_figures(event, "val_loss") | own)

        return emit_and_report

    def finish(self, error: str | None = None) -> str | None:
        """Have the services upload the rest and mark the run as finished, or failed by an error.

        Returns a warning if that fails or takes too long; the engine exits without their own
        clean-up.
        """
        if self._services is None:
            return None
        problems: list[str] = []

        def finish() -> None:
            try:
                _finish(self._names, error)
            except Exception as problem:  # Each service raises its own errors.
                problems.append(first_line(problem))

        thread = threading.Thread(target=finish, daemon=True)
        thread.start()
        thread.join(FINISH_SECONDS)
        if thread.is_alive():
            problems.append(f"no end within {FINISH_SECONDS:.0f} s")
        if not problems:
            return None
        return (
            f"{self._names} may lack the last steps ({problems[0]}); its own command line can "
            "upload them from the run's folder."
        )


def _finish(names: str, error: str | None) -> None:
    """End the services, those started last first."""
    for name in reversed(names.split(",")):
        match name.strip().lower():
            case "wandb":
                callbacks.wandb.finish(exit_code=0 if error is None else 1)
            case "swanlab" if error is None:
                callbacks.swanlab.finish()
            case "swanlab":
                callbacks.swanlab.finish(state=callbacks.swanlab.State.CRASHED, error=error)


def _services(recipe: Recipe, directory: RunDirectory) -> Any:
    try:
        return callbacks.get_reporting_callbacks(
            recipe.report_to,
            project_name=recipe.project_name or "mlxft-tui",
            log_dir=str(directory.path),
            config=recipes.to_mapping(recipe),
        )
    except ImportError:
        raise RecipeError(
            f"report_to: {recipe.report_to} is not installed; run pip install {recipe.report_to}, "
            "or leave report_to empty."
        ) from None
    except ValueError:
        raise RecipeError(
            f"report_to is {recipe.report_to!r}; it must be of "
            f"{', '.join(callbacks.SUPPORT_CALLBACK)}."
        ) from None
    except Exception as error:  # Each service raises its own errors.
        reason = first_line(error)
        raise RecipeError(
            f"report_to: {recipe.report_to} doesn't start ({reason}); log in to it, "
            "or leave report_to empty."
        ) from None


def _figures(event: ev.TrainReported | ev.ValidationFinished, loss: str) -> dict[str, float]:
    """The event's numbers by mlx_lm's names."""
    names = {"step": "iteration", "loss": loss}
    numbers = {name: getattr(event, name) for name in event.__struct_fields__}
    return {
        names.get(name, name): number
        for name, number in numbers.items()
        if name not in ("seq", "time", "best", "preference")
    }


_TRL_NAMES: Final = {
    "chosen_reward": "rewards/chosen",
    "rejected_reward": "rewards/rejected",
    "margin": "rewards/margins",
    "accuracy": "rewards/accuracies",
    "chosen_logp": "logps/chosen",
    "rejected_logp": "logps/rejected",
    "kl": "kl",
}


def _preference_figures(found: Sequence[ev.Preference | None], prefix: str) -> dict[str, float]:
    """The means of steps or of a validation by TRL's names; nothing with the loss sft."""
    figures: dict[str, float] = {}
    for name, shown in _TRL_NAMES.items():
        values = [getattr(each, name) for each in found if each is not None]
        known = [each for each in values if each is not None]
        if known:
            figures[prefix + shown] = math.fsum(known) / len(known)
    return figures
