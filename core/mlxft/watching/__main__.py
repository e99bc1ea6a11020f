"""A process beside a run: ``python -m mlxft.watching report SERVICE RUN AFTER`` or ``notify RUN
AFTER``, where AFTER is the number of the last event before the session.

It prints what the engine should write in the journal, a line each.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
from pathlib import Path
from typing import Final

from mlxft.errors import MlxftError
from mlxft.recipe import TRACKERS
from mlxft.runs.directory import RunDirectory
from mlxft.storage.paths import notifications_file
from mlxft.watching.priority import lower_priority
from mlxft.watching.voice import Voice, own_output

NICENESS: Final = 10
"""Below whatever trains; lower yet, a service would take too long to start on a busy machine."""


def main() -> int:
    """Watch until the session has ended."""
    arguments = _parser().parse_args()
    os.umask(0o077)
    for number in (signal.SIGHUP, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)
    lower_priority(NICENESS)
    directory = RunDirectory(arguments.run)
    voice = Voice(directory, own_output())
    if arguments.what == "notify":
        _notify(directory, arguments.after, voice)
    else:
        from mlxft.watching.tracker import Tracker

        Tracker(arguments.service, directory, arguments.after, voice, lambda: os._exit(1)).run()
    return 0


def _notify(directory: RunDirectory, after: int, voice: Voice) -> None:
    from mlxft.watching.notifications import load
    from mlxft.watching.notifier import Notifier

    try:
        wanted = load(notifications_file())
    except MlxftError as error:
        voice.say(str(error))
        return
    Notifier(directory, after, voice, wanted).run()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m mlxft.watching", description=__doc__)
    whats = parser.add_subparsers(dest="what", required=True)
    report = whats.add_parser("report", help="report the session to a service")
    report.add_argument("service", choices=TRACKERS)
    notify = whats.add_parser("notify", help="run the user's command when a hand is needed")
    for each in (report, notify):
        each.add_argument("run", type=Path)
        each.add_argument("after", type=int)
    return parser


if __name__ == "__main__":
    status = main()
    sys.stderr.flush()
    # A library's threads may still wait for its service.
    os._exit(status)
