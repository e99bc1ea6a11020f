"""What the five screens have in common: the application's state, pushed down to them."""

from __future__ import annotations

from dataclasses import dataclass

from textual.reactive import reactive
from textual.screen import Screen

from mlxft.engine.protocol import ModelOpened
from mlxft.recipe import Recipe
from mlxft.runs.directory import RunDirectory
from mlxft.runs.events import ProgressMade
from mlxft.runs.view import RunView, State
from mlxft.telemetry.sample import Sample
from mlxft_tui.session import Session


@dataclass(frozen=True)
class FollowedRun:
    """The run on screen: its directory, its view, and what it is doing."""

    directory: RunDirectory
    view: RunView
    state: State


class Place(Screen[None]):
    """A screen reached by one key; the application sets its reactives when something changed.

    A screen overrides ``watch_…`` for what it shows, and posts messages up for what it wants.
    """

    recipe: reactive[Recipe] = reactive(Recipe)
    run: reactive[FollowedRun | None] = reactive(None)
    model: reactive[ModelOpened | None] = reactive(None)
    """The recipe's model once it is local; None while it is opened or can't be."""
    model_progress: reactive[ProgressMade | str | None] = reactive(None)
    """How far the opening is, or in one sentence why it failed."""
    machine: reactive[Sample | None] = reactive(None)

    def __init__(self, session: Session) -> None:
        super().__init__()
        self.session = session
