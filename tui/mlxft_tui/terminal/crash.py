"""Crashes of the viewer: traceback to the log, one sentence on the terminal."""

from __future__ import annotations

import contextlib
import logging
import traceback
from datetime import datetime

from mlxft.storage.paths import log_file


def log_to_file() -> None:
    """Send all warnings to the log, so that none appear on the screen."""
    try:
        log_file().parent.mkdir(parents=True, exist_ok=True)
    except OSError:
        logging.getLogger().addHandler(logging.NullHandler())
        return
    handler = _LogFile(log_file(), delay=True, encoding="utf-8")
    handler.setLevel(logging.WARNING)
    handler.setFormatter(logging.Formatter("%(asctime)s %(name)s: %(message)s"))
    logging.getLogger().addHandler(handler)


class _LogFile(logging.FileHandler):
    """A log whose folder may be deleted meanwhile: whoever warns is not to fail then."""

    def emit(self, record: logging.LogRecord) -> None:
        """Write it, if that is possible."""
        with contextlib.suppress(OSError):
            super().emit(record)


def record(error: BaseException) -> str:
    """Write the traceback to the log and return a sentence that says where it is."""
    try:
        log_file().parent.mkdir(parents=True, exist_ok=True)
        with log_file().open("a", encoding="utf-8") as log:
            print(datetime.now().isoformat(timespec="seconds"), file=log)
            traceback.print_exception(error, file=log)
    except OSError as problem:
        return (
            f"mlxft-tui crashed ({type(error).__name__}) and can't write {log_file()} "
            f"({problem.strerror}). Runs keep training in the background."
        )
    return f"mlxft-tui crashed; see {log_file()}. Runs keep training in the background."
