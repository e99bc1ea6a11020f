"""The few errors a user meets; each message is one sentence with place and remedy."""


class MlxftError(Exception):
    """Anything that is the user's to mend; its text is shown as it is."""


class RecipeError(MlxftError):
    """A recipe has an unknown key, or a value that its declaration refuses."""


class DataError(MlxftError):
    """Records are missing, broken, or not trainable; names file and line."""


class ModelError(MlxftError):
    """A model folder, hub id or adapter can't be used."""


class RunError(MlxftError):
    """A run directory can't be created, read, locked or resumed."""


class EngineError(MlxftError):
    """An engine can't be started, reached, or has refused a command."""


class StorageError(MlxftError):
    """A folder can't be written, or the disk is full."""
