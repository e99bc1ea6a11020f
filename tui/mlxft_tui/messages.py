"""What screens ask of the application; each is posted up and handled in one place."""

from __future__ import annotations

from textual.message import Message

from mlxft.engine.protocol import AnyCommand
from mlxft.recipe import Recipe
from mlxft.runs.directory import RunDirectory


class RecipeChanged(Message):
    """The recipe was edited; every screen shall know."""

    def __init__(self, recipe: Recipe) -> None:
        super().__init__()
        self.recipe = recipe


class TrainingRequested(Message):
    """Start a run with the present recipe and follow it."""


class ResumeRequested(Message):
    """Start an engine again on a run that was stopped or lost, and follow it."""

    def __init__(self, directory: RunDirectory) -> None:
        super().__init__()
        self.directory = directory


class RunChosen(Message):
    """Follow this run and show it."""

    def __init__(self, directory: RunDirectory) -> None:
        super().__init__()
        self.directory = directory


class CommandIssued(Message):
    """Send a command to the engine of the followed run."""

    def __init__(self, command: AnyCommand) -> None:
        super().__init__()
        self.command = command
