"""Requests from screens to the application, posted up and handled there."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING

from textual.message import Message

if TYPE_CHECKING:
    from mlxft.data.folder_view import DataView
    from mlxft.engine.protocol import AnyCommand, ModelOpened
    from mlxft.recipe import Recipe
    from mlxft.runs.directory import RunDirectory
    from mlxft.runs.followed import FollowedRun
    from mlxft.sweep.cost import Sources


class RecipeChanged(Message):
    """The session's recipe was edited; all screens must follow.

    Whoever handles it calls `heard` first.
    """

    def __init__(self, heard: Callable[[], None]) -> None:
        super().__init__()
        self.heard = heard


class RecipePreviewed(Message):
    """Show a recipe that isn't kept yet."""

    def __init__(self, recipe: Recipe) -> None:
        super().__init__()
        self.recipe = recipe


class DataRead(Message):
    """More of the data folder has been read."""

    def __init__(self, view: DataView) -> None:
        super().__init__()
        self.view = view


class TrainingRequested(Message):
    """Start a run with the current recipe and follow it."""


class QueueingRequested(Message):
    """Add a run of the current recipe to the queue."""


class SweepRequested(Message):
    """Make a sweep of the current recipe that varies a parameter, by key, among others."""

    def __init__(self, parameter: str, sources: Sources) -> None:
        super().__init__()
        self.parameter = parameter
        self.sources = sources


class SweepReportRequested(Message):
    """Show what becomes of the project's sweeps."""


class ResumeRequested(Message):
    """Resume a stopped, failed or lost run and follow it.

    `changes` are new recipe values by key.
    """

    def __init__(
        self, directory: RunDirectory, changes: Mapping[str, object] = MappingProxyType({})
    ) -> None:
        super().__init__()
        self.directory = directory
        self.changes = changes


class RunChosen(Message):
    """Follow and show this run."""

    def __init__(self, directory: RunDirectory) -> None:
        super().__init__()
        self.directory = directory


class ComparisonRequested(Message):
    """Show runs side by side; one is shown alone."""

    def __init__(self, directories: tuple[RunDirectory, ...]) -> None:
        super().__init__()
        self.directories = directories


class ChatOfRunsRequested(Message):
    """Let two runs of one model answer side by side, or one beside its base model."""

    def __init__(self, directories: tuple[RunDirectory, ...]) -> None:
        super().__init__()
        self.directories = directories


class ExportRequested(Message):
    """Export a run that has ended, or show the export that is running."""

    def __init__(self, run: FollowedRun) -> None:
        super().__init__()
        self.run = run


class DeletionRequested(Message):
    """Delete runs in this order; the user has confirmed."""

    def __init__(self, directories: tuple[RunDirectory, ...]) -> None:
        super().__init__()
        self.directories = directories


class CommandIssued(Message):
    """Send a command to a run's engine, by default the followed run's."""

    def __init__(self, command: AnyCommand, directory: RunDirectory | None = None) -> None:
        super().__init__()
        self.command = command
        self.directory = directory


class ModelChoiceRequested(Message):
    """Choose the recipe's model among those here and on the hub."""


class ModelReopened(Message):
    """The chat has opened a model that the application may be waiting for."""

    def __init__(self, recipe: Recipe, opened: ModelOpened) -> None:
        super().__init__()
        self.recipe = recipe
        self.opened = opened
