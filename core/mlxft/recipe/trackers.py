"""The services that a run's figures can be reported to."""

from __future__ import annotations

from typing import Final

from mlxft.errors import RecipeError

TRACKERS: Final = ("tensorboard", "trackio", "wandb", "swanlab")

OF_MLX_LM: Final = ("wandb", "swanlab")
"""Those that mlx-lm reports to as well."""


def tracker_names(report_to: str | None) -> tuple[str, ...]:
    """The services of a ``report_to``, each once."""
    names = (each.strip().lower() for each in (report_to or "").split(","))
    return tuple(dict.fromkeys(each for each in names if each))


def check_report_to(report_to: str | None) -> None:
    """Raise `RecipeError` for a service that is none of `TRACKERS`."""
    for name in tracker_names(report_to):
        if name not in TRACKERS:
            raise RecipeError(
                f"report_to is {report_to!r}; it must be of {', '.join(TRACKERS)}, "
                "several separated by commas."
            )
