"""A run's directory: mlx-lm's layout, plus what a resume or a viewer needs."""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from mlxft import recipe as recipes
from mlxft.errors import RunError, StorageError
from mlxft.recipe import Recipe
from mlxft.recipe.chat_template import FILE_NAME
from mlxft.runs import lock
from mlxft.storage.atomic_files import write_atomically
from mlxft.storage.paths import runtime_dir


@dataclass(frozen=True)
class RunDirectory:
    """The paths of a run."""

    path: Path

    @property
    def name(self) -> str:
        """The run's name: its folder's."""
        return self.path.name

    @property
    def recipe_file(self) -> Path:
        return self.path / "recipe.yaml"

    @property
    def queued_recipe_file(self) -> Path:
        """The recipe while the run waits in the queue and doesn't count as a run yet."""
        return self.path / "queued.yaml"

    @property
    def journal_file(self) -> Path:
        return self.path / "events.jsonl"

    @property
    def log_file(self) -> Path:
        return self.path / "engine.log"

    @property
    def lock_file(self) -> Path:
        return self.path / "lock"

    @property
    def adapter_file(self) -> Path:
        return self.path / "adapters.safetensors"

    @property
    def adapter_config_file(self) -> Path:
        return self.path / "adapter_config.json"

    @property
    def template_file(self) -> Path:
        """The chat template, where the recipe replaces the model's own."""
        return self.path / FILE_NAME

    @property
    def checkpoints(self) -> Path:
        """Holds ``<step>/`` for each resumable checkpoint."""
        return self.path / "checkpoints"

    @property
    def best_adapter_file(self) -> Path:
        """The adapter with the lowest validation loss."""
        return self.path / "best_adapters.safetensors"

    def numbered_adapter_file(self, step: int) -> Path:
        """The adapter after a step, named as mlx-lm does."""
        return self.path / f"{step:07d}_adapters.safetensors"

    @property
    def watching(self) -> Path:
        """Holds what each service that the run is reported to has of it, and logs of the processes
        beside the run."""
        return self.path / "watching"

    @property
    def address_file(self) -> Path:
        """Holds the path of the control socket, which is elsewhere since a socket needs a short
        path and a local file system."""
        return self.path / "address"

    @property
    def socket_name(self) -> str:
        """The control socket's name, keyed by the run's real path."""
        return f"{hashlib.sha256(os.fsencode(self.path.resolve())).hexdigest()[:16]}.sock"

    @property
    def socket_file(self) -> Path:
        """Where an engine started in this session would listen."""
        return runtime_dir() / self.socket_name

    @property
    def written(self) -> float:
        """When the journal was last written, or the recipe where there is no journal yet: the
        newest run is the one with the latest write. Seconds since 1970; 0 for a deleted run.
        """
        for file in (self.journal_file, self.recipe_file):
            with contextlib.suppress(OSError):
                return file.stat().st_mtime
        return 0.0

    def recipe(self) -> Recipe:
        """The recipe that the next session will train. Raises `RecipeError`."""
        return recipes.load_of_run(self.recipe_file)

    def leave_queue(self) -> None:
        """Make a queued run one that an engine can be started on; does nothing to one that is.

        Raises `StorageError`.
        """
        try:
            # An engine has a time to start from when the recipe was written.
            os.utime(self.queued_recipe_file)
            self.queued_recipe_file.rename(self.recipe_file)
        except FileNotFoundError:
            return
        except OSError as error:
            raise StorageError(
                f"{self.path}: the run can't be started ({error.strerror}); check the folder's "
                "permissions."
            ) from None

    def write_recipe(self, recipe: Recipe, *, queued: bool = False) -> None:
        """Replace the recipe; mlx-lm, given the file, writes its adapter here too.

        Raises `StorageError`.
        """
        text = recipes.dump(recipe, adapter_path=str(self.path.resolve()))
        file = self.queued_recipe_file if queued else self.recipe_file
        try:
            write_atomically(file, text.encode())
        except OSError as error:
            raise StorageError(
                f"{file}: the recipe can't be written ({error.strerror}); check the "
                "disk and the folder's permissions."
            ) from None

    @property
    def process(self) -> int | None:
        """The process id of the engine that holds the run's lock."""
        note = lock.holder(self.lock_file)
        return int(note) if note and note.isdecimal() else None

    def is_live(self) -> bool:
        """Whether an engine holds the run's lock."""
        return lock.is_taken(self.lock_file)

    @contextmanager
    def locked(self) -> Iterator[lock.Held]:
        """Hold the run's lock, with this process's id as its note.

        Raises `RunError` if another engine holds it.
        """
        with lock.taken(self.lock_file, str(os.getpid())) as got:
            if got is None:
                raise RunError(
                    f"{self.path}: another engine is training this run; attach to it instead."
                )
            yield got


def create(root: Path, recipe: Recipe, kind: str, *, queued: bool = False) -> RunDirectory:
    """Create a run directory with its recipe: by the recipe's name for it, or else by its kind.

    A kind always gets a number, a name only if it is taken. A `queued` one is no run before it
    leaves the queue. Raises `StorageError` if the folder
    can't be written.
    """
    stem = recipe.run_name or re.sub(r"[^A-Za-z0-9._-]+", "-", kind).strip("-.") or "run"
    try:
        root.mkdir(parents=True, exist_ok=True)
        directory = RunDirectory(_new_folder(root, stem, numbered=recipe.run_name is None))
    except OSError as error:
        raise StorageError(
            f"{root}: a run can't be created there ({error.strerror}); choose a folder you can "
            "write."
        ) from None
    directory.write_recipe(recipe, queued=queued)
    return directory


def _new_folder(root: Path, name: str, *, numbered: bool) -> Path:
    """A folder of this name, or of the next number where that is taken or `numbered`."""
    names = (f"{name}-{number}" for number in itertools.count(1 if numbered else 2))
    for each in names if numbered else itertools.chain([name], names):
        with contextlib.suppress(FileExistsError):
            (root / each).mkdir(mode=0o700)
            return root / each
    raise AssertionError
