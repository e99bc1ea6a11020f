"""Reports a run to wandb or swanlab through mlx_lm's callbacks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from mlx_lm.tuner.callbacks import SUPPORT_CALLBACK, get_reporting_callbacks

from mlxft import recipe as recipes
from mlxft.errors import RecipeError
from mlxft.recipe import Recipe
from mlxft.runs import events as ev
from mlxft.runs.directory import RunDirectory
from mlxft.runs.events import AnyEvent

Emit = Callable[[AnyEvent], object]


def tracked(recipe: Recipe, directory: RunDirectory, emit: Emit) -> Emit:
    """`emit`, extended to report to the services in the recipe's ``report_to``.

    Raises `RecipeError` for a service that is unknown, not installed or fails to start.
    """
    if not recipe.report_to:
        return emit
    services = _services(recipe, directory)

    def emit_and_report(event: AnyEvent) -> None:
        emit(event)
        match event:
            case ev.TrainReported():
                services.on_train_loss_report(_figures(event, "train_loss"))
            case ev.ValidationFinished():
                services.on_val_loss_report(_figures(event, "val_loss"))

    return emit_and_report


def _services(recipe: Recipe, directory: RunDirectory) -> Any:
    try:
        return get_reporting_callbacks(
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
            f"report_to is {recipe.report_to!r}; it must be of {', '.join(SUPPORT_CALLBACK)}."
        ) from None
    except Exception as error:  # Each service raises its own errors.
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
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
        if name not in ("seq", "time", "best")
    }
