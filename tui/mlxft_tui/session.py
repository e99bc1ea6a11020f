"""The project folder and the engines of one viewer, without any widget."""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import time
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import mlxft
from mlxft import recipe as recipes
from mlxft.engine import address
from mlxft.engine.client import EngineClient
from mlxft.engine.launch import ModelService, launch_training
from mlxft.engine.machine import refuse_if_training
from mlxft.engine.protocol import Export
from mlxft.errors import EngineError, ModelError, RecipeError, StorageError
from mlxft.memory.local_config import model_folder
from mlxft.queue.entries import Entry, Queue, added, adopted, find
from mlxft.queue.removal import remove
from mlxft.queue.start import ensure_supervisor
from mlxft.queue.store import Change, current_queue, own_store
from mlxft.recipe import Recipe
from mlxft.recipe.edits import RecipeEdits
from mlxft.runs.directory import RunDirectory
from mlxft.runs.followed import has_failed_to_start, read_run
from mlxft.runs.history import History, current, newest_first
from mlxft.runs.journal import last_seq
from mlxft.storage.paths import expanded, state_dir
from mlxft.text import figures

if TYPE_CHECKING:
    from mlxft.adapters.found import FoundAdapter
    from mlxft.comparison.table import RunTable
    from mlxft.doctor.checkup import Report
    from mlxft.doctor.self_test.self_test import SelfTest
    from mlxft.doctor.self_test.watch import Watch
    from mlxft.doctor.terminal import Terminal
    from mlxft.export.types import Choice


def engine_gone(directory: RunDirectory) -> str:
    """The message for an engine that has exited, with the remedy."""
    return (
        f"The engine of {directory.name} has exited; {figures.short_path(directory.log_file)} may "
        "say why. The Train screen resumes an unfinished run."
    )


class Session:
    """A viewer's recipe file, runs, model service and connection to an engine."""

    def __init__(self, folder: Path) -> None:
        # Relative paths would mean another place to the engines, which start elsewhere.
        self.folder = folder = folder.resolve()
        self.adapters = folder / "adapters"
        self.history = History(self.adapters)
        """The folder's latest runs; shared by the screens, so that each journal is read once."""
        self.recipe_file = folder / "recipe.yaml"
        self.edits = RecipeEdits(self.recipe_file)
        """The recipe on screen, in the folder's file after each edit."""
        self._service = ModelService(folder)
        self._exporter = ModelService(folder)
        self._engine: EngineClient | None = None
        self._followed: RunDirectory | None = None

    @cached_property
    def table(self) -> RunTable:
        """The folder's runs as rows, for lists of many."""
        from mlxft.comparison.table import RunTable

        return RunTable(self.adapters)

    @property
    def is_project(self) -> bool:
        """Whether the folder holds a recipe or runs."""
        return self.recipe_file.is_file() or self.adapters.is_dir()

    def saved_recipe(self) -> Recipe:
        """The folder's recipe, or the defaults with the newest run's model and data.

        Raises `RecipeError` if the folder's recipe can't be read.
        """
        if self.recipe_file.is_file():
            return recipes.load(self.recipe_file)
        return self._first_recipe()

    def _first_recipe(self) -> Recipe:
        """The recipe of a folder that has none yet."""
        newest = next(iter(self.runs()), None)
        try:
            last = newest.recipe() if newest else Recipe()
        except RecipeError:
            return Recipe()
        return recipes.from_mapping({"model": last.model, "data": last.data})

    def open_recipe(self, recipe: Recipe | None = None) -> None:
        """Start editing a recipe, by default the folder's.

        Raises `RecipeError` if the folder's recipe can't be read.
        """
        if recipe is not None:
            self.edits.start(recipe)
            return
        self.edits.open(self._first_recipe())
        with contextlib.suppress(StorageError):
            self.edits.restore_undo(self._undo_file())

    def _undo_file(self) -> Path:
        """Where the project's undone edits are kept between two starts. Raises `StorageError`."""
        key = hashlib.sha256(os.fsencode(self.folder)).hexdigest()[:16]
        return state_dir() / f"undo-{key}.json"

    def save_columns(self, recipe: Recipe) -> None:
        """Save the recipe's data and columns, but no other unsaved edits.

        Raises `StorageError`, and `RecipeError` if the folder's recipe can't be read.
        """
        saved = self.saved_recipe() if self.recipe_file.is_file() else recipe
        saved = recipes.replace(saved, "data", recipe.data)
        recipes.save(recipes.replace(saved, "columns", recipe.columns), self.recipe_file)

    def path(self, text: str) -> Path:
        """Resolve a recipe's path, which may be relative to the folder."""
        return self.folder / expanded(text)

    def data(self, recipe: Recipe) -> Path:
        """The recipe's data folder or file; for a hub dataset, valid after `fetch_data`."""
        from mlxft.runs.new_run import data_of

        return data_of(self.folder, recipe)

    def fetch_data(self, recipe: Recipe) -> None:
        """Download the recipe's hub dataset if needed; slow at first. Raises `DataError`."""
        from mlxft.data import hub

        if hub.is_hub_id(recipe.data, self.folder):
            hub.fetched(recipe.data)

    def refuse_unusable_adapter(self, adapter: FoundAdapter, model: str) -> None:
        """Raise `ModelError` for an adapter that a model can't use, before the model is loaded."""
        from mlxft.adapters.check import checked_adapter

        if not model:
            raise ModelError(
                f"{adapter.path}: this adapter doesn't say which model it was trained on; name it "
                "with --model."
            )
        checked_adapter(adapter.path, model_folder(model, self.folder))

    def adapter_warning(self, adapter: Path, model: str) -> str:
        """A sentence on an adapter that was trained on other weights than a model's, or empty.

        Raises `ModelError` for an adapter that can't be read.
        """
        from mlxft.adapters import base_model
        from mlxft.adapters.files import adapter_files

        return base_model.warning(adapter_files(adapter), model_folder(model, self.folder))

    def refuse_unusable_start(self, recipe: Recipe) -> None:
        """Raise `ModelError` or `RecipeError` for an adapter that a run can't start from, or for a
        service to report to that isn't installed."""
        from mlxft.adapters.check import check_start
        from mlxft.watching.installed import refuse_missing

        refuse_missing(recipe)
        if recipe.resume_adapter_file:
            model = model_folder(recipe.model, self.folder)
            check_start(recipe, self.path(recipe.resume_adapter_file), model)

    def run_to_follow(self) -> RunDirectory | None:
        """The run of this folder that an engine is working on, or else the newest."""
        return current(self.adapters)

    async def service(self) -> EngineClient:
        """The model service's client; starts the service on the first call and if it has died."""
        return await self._service.client()

    async def exporter(self) -> EngineClient:
        """The client of a model service of its own, which exports beside what the other does."""
        return await self._exporter.client()

    async def end_exporter(self) -> None:
        """End the service that exports, which frees its memory; an export there is cancelled."""
        await self._exporter.close()

    def export_command(self, adapter: FoundAdapter, choice: Choice, model: str) -> Export:
        """What a model service needs to export an adapter.

        Raises `ModelError`, `RunError` and `StorageError` for what can't be exported, before the
        model is loaded.
        """
        from mlxft.export.place import free_bytes, refuse_full, refuse_taken
        from mlxft.export.refusal import refuse, subject_of
        from mlxft.export.size import expected_bytes
        from mlxft.export.source import source_of

        self.refuse_unusable_adapter(adapter, model)
        refuse(choice.form, subject_of(adapter.path, model_folder(model, self.folder)))
        out = self.folder.absolute() / choice.out
        refuse_taken(out)
        source, recipe = source_of(adapter, choice.checkpoint), adapter.recipe
        folder = model_folder(model, self.folder)
        needed = expected_bytes(folder, source.weights, choice.form, choice.quantize)
        refuse_full(out, needed, free_bytes(out))
        return Export(
            str(source.weights),
            recipe,
            choice.form,
            str(out),
            source.origin,
            str(self.data(recipe).resolve()) if adapter.is_run else None,
            choice.quantize,
        )

    async def engine(self, directory: RunDirectory) -> EngineClient:
        """The client of a live run's engine. Raises `EngineError` if the run isn't live."""
        if self._engine is None or self._followed != directory or self._engine.closed:
            if self._engine is not None:
                await self._engine.close()
            self._engine = await address.connect(directory, gone=engine_gone(directory))
            self._followed = directory
        return self._engine

    def new_run(self, recipe: Recipe, *, queued: bool = False) -> RunDirectory:
        """Create a run's directory, to be started by `launch`, or by the queue's supervisor.

        Its recipe has absolute paths, so that it can be resumed from any folder.
        Raises `StorageError`, and `RecipeError` for a hostfile that can't be used.
        """
        from mlxft.runs.new_run import new_run

        return new_run(self.folder, recipe, queued=queued)

    def enqueue(self, recipe: Recipe) -> Entry:
        """Add a run to the queue, which starts it when its turn comes.

        Raises `StorageError`, and `EngineError` if the queue's supervisor can't be started.
        """
        directory = self.new_run(recipe, queued=True)
        try:
            queue = self.change_queue(lambda queue: added(queue, directory, now=time.time()))
        except StorageError:
            shutil.rmtree(directory.path, ignore_errors=True)
            raise
        return find(queue, str(directory.path))

    def queue(self) -> Queue:
        """The user's queue. Raises `StorageError`."""
        return current_queue()

    def change_queue(self, change: Change) -> Queue:
        """Change the queue, and have it worked through.

        Raises `StorageError`, what `change` raises, and `EngineError` if the queue's supervisor
        can't be started.
        """
        queue = own_store().change(change)
        self.supervise()
        return queue

    def remove_from_queue(self, entry: Entry) -> Queue:
        """Remove a waiting run. Raises `RunError` if it has begun, and `StorageError`."""
        remove(own_store(), entry)
        return self.queue()

    def supervise(self) -> None:
        """Start the queue's supervisor if it is needed. Raises `EngineError`, `StorageError`."""
        ensure_supervisor(own_store())

    def change(self, directory: RunDirectory, changes: Mapping[str, object]) -> None:
        """Change recipe values, by key, of a run that isn't live and is to be resumed.

        Raises `RunError` if it is live or another one trains, `RecipeError` and `StorageError`;
        nothing is changed then.
        """
        if not changes:
            return
        if not directory.is_live():
            refuse_if_training(self.adapters)
        with directory.locked():
            recipe = directory.recipe()
            for key, value in changes.items():
                recipe = recipes.replace(recipe, key, value)
            directory.write_recipe(recipe)

    def launch(self, directory: RunDirectory) -> None:
        """Start an engine on a new or checkpointed run; it outlives this viewer.

        Takes seconds. Raises `EngineError`.
        """
        if directory.is_live():
            raise EngineError(f"{directory.name} is already running; attach to it instead.")
        seq = last_seq(directory.journal_file)
        launch_training(directory)
        if directory.recipe().resume == "automatic":
            # The queue's supervisor resumes it.
            now = time.time()
            self.change_queue(lambda queue: adopted(queue, directory, after_seq=seq, now=now))

    def delete(self, directory: RunDirectory) -> None:
        """Delete a run with its adapters and checkpoints.

        Raises `RunError` if it is live, in the queue or the base of another run, and
        `StorageError`.
        """
        from mlxft.comparison import retention

        rows = self.table.poll() or ()
        queued = self.queued_folders()
        for row in rows:
            if row.directory == directory:
                retention.refuse_deletion(row, rows, queued)
        retention.delete(directory)

    def queued_folders(self) -> tuple[Path, ...]:
        """The folders of runs that the queue has. Raises `StorageError`."""
        return tuple(each.directory.path for each in self.queue().entries)

    def discard_failed_start(self, directory: RunDirectory) -> bool:
        """Delete a new run that has failed before its first step; returns whether it was one.

        One whose log has more to say than its error is kept. Raises `RunError` and `StorageError`.
        """
        if not directory.recipe_file.is_file() or not has_failed_to_start(read_run(directory)):
            return False
        from mlxft.comparison import retention

        retention.delete(directory)
        return True

    def examined(self, terminal: Terminal) -> Report:
        """The doctor's report of this machine; takes seconds."""
        from mlxft.doctor.checkup import checkup

        return checkup(self.folder, terminal)

    def examined_machines(self) -> Report | None:
        """The machines of the recipe's hosts; None for one process. Takes up to a minute."""
        if self.edits.recipe.hosts == 1:
            return None
        from mlxft.doctor.checkup import Report, Section
        from mlxft.doctor.finding import Finding
        from mlxft.doctor.hosts.check import check_machines

        try:
            return check_machines(self.edits.recipe, self.folder)
        except RecipeError as error:
            section = Section("Hosts", [Finding("hosts", "problem", str(error))])
            return Report(mlxft.__version__, [section])

    def self_tested(self, watch: Watch) -> tuple[SelfTest, Path]:
        """A self-test of this machine, and its file; takes minutes.

        Raises an `MlxftError`, and `CancelledError` once the watch is cancelled.
        """
        from mlxft.doctor.self_test.self_test import FILE, self_test, write
        from mlxft_tui.terminal.invocation import OPEN_APP

        found = self_test(self.folder, watch, app=OPEN_APP)
        write(found, self.folder / FILE)
        return found, self.folder / FILE

    async def close(self) -> None:
        """Disconnect and end the model service; runs keep running."""
        with contextlib.suppress(OSError, StorageError):
            self.edits.keep_undo(self._undo_file())
        if self._engine is not None:
            await self._engine.close()
        await self._service.close()
        await self._exporter.close()

    def runs(self) -> list[RunDirectory]:
        """The folder's runs, the newest first; reads no journal."""
        return newest_first(self.adapters)
