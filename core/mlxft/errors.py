"""Errors shown to the user; each message is one sentence with the location and the fix."""

from typing import Literal

FailureCause = Literal["not_finite", "out_of_memory", "gpu_watchdog", "machine_busy", "rank_lost"]
"""Why a run failed, where advice or a queue depends on it; `gpu_watchdog` is macOS ending GPU work
that had blocked the display, `machine_busy` another run that trains."""


class MlxftError(Exception):
    """Anything the user can fix; its message is shown as it is."""


class RecipeError(MlxftError):
    """A recipe has an unknown key or an invalid value."""


class DataError(MlxftError):
    """Records are missing, broken or not trainable; names file and line."""


class ModelError(MlxftError):
    """A model folder, hub id or adapter can't be used."""


class RunError(MlxftError):
    """A run can't be created, read, locked or resumed, or its training has failed."""

    def __init__(self, message: str, cause: FailureCause | None = None) -> None:
        super().__init__(message)
        self.cause = cause


class EngineError(MlxftError):
    """An engine can't be started or reached, or refused a command."""


class StorageError(MlxftError):
    """A folder can't be written, or the disk is full."""
