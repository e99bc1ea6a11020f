"""What screens ask of the application; each is posted up and handled in one place."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from textual.message import Message

from mlxft.data.folder_view import DataView
from mlxft.engine.protocol import AnyCommand, ModelOpened
from mlxft.recipe import Recipe
from mlxft.runs.directory import RunDirectory


class RecipeChanged(Message):
    """The recipe was edited; every screen shall know."""

    def __init__(self, recipe: Recipe) -> None:
        super().__init__()
        self.recipe = recipe


class DataRead(Message):
    """More is known of the data folder."""

    def __init__(self, view: DataView) -> None:
        super().__init__()
        self.view = view


class TrainingRequested(Message):
    """Start a run with the present recipe and follow it."""


class ResumeRequested(Message):
    """Start an engine again on a run that was stopped, failed or lost, and follow it.

    `changes` are new values of its recipe by key.
    """

    def __init__(
        self, directory: RunDirectory, changes: Mapping[str, object] = MappingProxyType({})
    ) -> None:
        super().__init__()
        self.directory = directory
        self.changes = changes


class RunChosen(Message):
    """Follow this run and show it."""

    def __init__(self, directory: RunDirectory) -> None:
        super().__init__()
        self.directory = directory


class DeletionRequested(Message):
    """Delete a run's directory with all in it; the user has been asked."""

    def __init__(self, directory: RunDirectory) -> None:
        super().__init__()
        self.directory = directory


class CommandIssued(Message):
    """Send a command to the engine of a run, or of the followed one."""

    def __init__(self, command: AnyCommand, directory: RunDirectory | None = None) -> None:
        super().__init__()
        self.command = command
        self.directory = directory


class ModelReopened(Message):
    """A model was opened that the application may wait for."""

    def __init__(self, asked: Recipe, opened: ModelOpened) -> None:
        super().__init__()
        self.asked = asked
        self.opened = opened
