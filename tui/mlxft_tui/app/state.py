"""What every screen may show of a project."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mlxft.data.folder_view import DataView
    from mlxft.data.split_files import SplitName
    from mlxft.data.token_figures import TokenFigures
    from mlxft.engine.protocol import ModelOpened
    from mlxft.recipe import Recipe
    from mlxft.runs.events import ProgressMade
    from mlxft.runs.followed import FollowedRun
    from mlxft.telemetry.sample import Sample
    from mlxft_tui.frame.pending import Refused
    from mlxft_tui.frame.screen import AppScreen


@dataclass(kw_only=True)
class AppState:
    """The reactives of an `AppScreen`, under the same names."""

    recipe: Recipe
    run: FollowedRun | None = None
    loading_run: str = ""
    model: ModelOpened | None = None
    model_progress: ProgressMade | str | None = None
    machine: Sample | None = None
    refused: Refused | None = None
    data: DataView | None = None
    tokens: Mapping[SplitName, TokenFigures] = field(default_factory=dict)
    tokens_problem: str = ""

    def show_on(self, screen: AppScreen) -> None:
        """Set the screen's reactives, but for a recipe that was just edited there."""
        for each in fields(self):
            if each.name != "recipe" or not screen.shows_own_edit:
                setattr(screen, each.name, getattr(self, each.name))
