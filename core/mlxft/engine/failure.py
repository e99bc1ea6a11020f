"""Errors as one sentence for the user, with the traceback in a log."""

from __future__ import annotations

import contextlib
import os
import traceback
from pathlib import Path

from mlxft.errors import MlxftError


def sentence(error: BaseException, what: str, log: Path) -> str:
    """An expected error's own sentence; for any other, `what` with the error's type and the log.

    The log also gets the traceback of an error that an expected one was made from.
    """
    if isinstance(error, MlxftError):
        # A deleted run's folder must not come back.
        if error.__cause__ is not None and log.parent.is_dir():
            record(error, log)
        return str(error)
    record(error, log)
    return f"{what} unexpectedly ({type(error).__name__}); {log} has the traceback."


def record(error: BaseException, log: Path) -> None:
    """Append the traceback to a log that only its owner can read; raises nothing on a full disk."""
    text = "".join(traceback.format_exception(error))
    with contextlib.suppress(OSError):
        log.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
        with open(os.open(log, flags, 0o600), "wb") as file:
            file.write(text.encode(errors="backslashreplace"))
