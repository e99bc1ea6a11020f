"""The viewer's own failure: all of it into the log, one sentence on the screen."""

from __future__ import annotations

import logging
import traceback
from datetime import datetime

from mlxft.paths import log_file


def log_to_file() -> None:
    """Send warnings of every module to the log; without it they would land on the screen."""
    try:
        log_file().parent.mkdir(parents=True, exist_ok=True)
    except OSError:
        logging.getLogger().addHandler(logging.NullHandler())
        return
    handler = logging.FileHandler(log_file(), delay=True, encoding="utf-8")
    handler.setLevel(logging.WARNING)
    handler.setFormatter(logging.Formatter("%(asctime)s %(name)s: %(message)s"))
    logging.getLogger().addHandler(handler)


def record(error: BaseException) -> str:
    """Write the traceback to the log; the sentence that says where it is."""
    try:
        log_file().parent.mkdir(parents=True, exist_ok=True)
        with log_file().open("a", encoding="utf-8") as log:
            print(datetime.now().isoformat(timespec="seconds"), file=log)
            traceback.print_exception(error, file=log)
    except OSError as problem:
        return (
            f"mlxft-tui has failed ({type(error).__name__}) and {log_file()} can't be written "
            f"({problem.strerror}); a running training goes on."
        )
    return f"mlxft-tui has failed; {log_file()} says where, and a running training goes on."
