"""The processes beside a run, as its engine starts and hears them."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import IO

from mlxft import recipe as recipes
from mlxft.errors import MlxftError, StorageError
from mlxft.recipe import Recipe
from mlxft.runs.directory import RunDirectory
from mlxft.storage.paths import notifications_file
from mlxft.watching.notifications import load


class Companions:
    """Starts a process for each service and one for notifications, and passes on their warnings.

    They read the journal, so the engine gives them nothing and never waits for them; each ends by
    itself after the session.
    """

    def __init__(self, directory: RunDirectory, warn: Callable[[str], object]) -> None:
        """`warn` writes a warning in the journal; it is called in threads of this class."""
        self._directory = directory
        self._warn = warn
        self._listening = threading.Lock()
        self._is_open = True

    def start(self, recipe: Recipe, after: int) -> None:
        """Start the processes of a session that follows the event number `after`."""
        for name in recipes.tracker_names(recipe.report_to):
            self._start(name, ["report", name, str(self._directory.path), str(after)])
        try:
            wanted = load(notifications_file())
        except MlxftError as error:
            self._say(str(error))
            return
        if wanted.wants_process:
            name = "notifications"
            self._start(name, ["notify", str(self._directory.path), str(after)])

    def close(self) -> None:
        """Write nothing more; they write their last warnings themselves."""
        with self._listening:
            self._is_open = False

    def _start(self, name: str, arguments: list[str]) -> None:
        try:
            with self._opened_log(name) as log:
                process = subprocess.Popen(
                    # -P: modules in the current folder must not stand in for installed ones.
                    [sys.executable, "-P", "-m", "mlxft.watching", *arguments],
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.PIPE,
                    stderr=log,
                    start_new_session=True,
                )
        except OSError as error:
            self._say(f"{name} can't be started ({error.strerror}); the run continues without it.")
            return
        threading.Thread(target=self._listen, args=(name, process), daemon=True).start()

    def _opened_log(self, name: str) -> IO[bytes]:
        self._directory.watching.mkdir(mode=0o700, exist_ok=True)
        return open(self._log(name), "ab")

    def _log(self, name: str) -> Path:
        return self._directory.watching / f"{name}.log"

    def _listen(self, name: str, process: subprocess.Popen[bytes]) -> None:
        """Pass on a process's warnings, and that it has died, which it can't say itself."""
        assert process.stdout is not None
        for line in process.stdout:
            self._say(line.decode(errors="replace").rstrip("\n"))
        if process.wait() < 0:
            self._say(
                f"{name} gets nothing more: its process was killed by signal "
                f"{-process.returncode}; {self._log(name)} may say why."
            )

    def _say(self, message: str) -> None:
        with self._listening:
            if self._is_open:
                with contextlib.suppress(StorageError):  # The engine meets a full disk itself.
                    self._warn(message)
