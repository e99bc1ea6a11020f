"""The few errors a user meets; each message is one sentence with place and remedy."""

from typing import Literal

FailureCause = Literal["not_finite", "out_of_memory", "gpu_watchdog"]
"""Why a run failed, where advice depends on it; `gpu_watchdog` is macOS ending GPU work that had
blocked the display."""


class MlxftError(Exception):
    """Anything that is the user's to mend; its text is shown as it is."""


class RecipeError(MlxftError):
    """A recipe has an unknown key, or a value that its declaration refuses."""


class DataError(MlxftError):
    """Records are missing, broken, or not trainable; names file and line."""


class ModelError(MlxftError):
    """A model folder, hub id or adapter can't be used."""


class RunError(MlxftError):
    """A run can't be created, read, locked or resumed, or its training has failed."""

    def __init__(self, message: str, cause: FailureCause | None = None) -> None:
        super().__init__(message)
        self.cause = cause


class EngineError(MlxftError):
    """An engine can't be started, reached, or has refused a command."""


class StorageError(MlxftError):
    """A folder can't be written, or the disk is full."""
