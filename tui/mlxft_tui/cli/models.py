"""`mlxft-tui models` and `download`: what can be trained here, and fetching it from the hub."""

from __future__ import annotations

import json
import shutil
import signal
import sys
import threading
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

import msgspec

from mlxft.errors import MlxftError
from mlxft.hub.listed import ListedModel, Order, in_order, this_machine
from mlxft.hub.local_models import local_models
from mlxft.hub.verdicts import facts, outcome
from mlxft.text import figures
from mlxft.text.printable import printable_line
from mlxft_tui.cli.following import INTERRUPTED
from mlxft_tui.text.progress import Transfer

if TYPE_CHECKING:
    from mlxft.hub.search import HubOrder
    from mlxft.recipe import Recipe
    from mlxft.runs.events import ProgressMade
    from mlxft_tui.session import Session

NARROWEST_NAME: Final = 24
LINE_SECONDS: Final = 5.0
"""Between two lines of progress where the output is no terminal."""


def list_models(
    session: Session,
    recipe: Recipe,
    *,
    text: str | None,
    order: str | None,
    limit: int,
    as_json: bool,
) -> int:
    """Print the models here, or the hub's with a text in their names. Raises `MlxftError`."""
    machine = this_machine(recipe)
    if text is None:
        if order in ("downloads", "likes", "updated"):
            raise MlxftError(f"--sort {order} needs --search, as only the hub knows it.")
        local: Order = order or "best"  # type: ignore[assignment]
        found = in_order([*local_models(session.folder, machine)], local)
    else:
        from mlxft.hub.search import HUB_ORDERS, search

        own: HubOrder = order if order in HUB_ORDERS else "downloads"  # type: ignore[assignment]
        found = search(text, machine, own, limit)
        if order and order not in HUB_ORDERS:
            found = in_order(found, order)  # type: ignore[arg-type]
    if as_json:
        print(json.dumps(msgspec.to_builtins(found), indent=1))
    elif found:
        _print(found)
    elif text is None:
        print("no models here; mlxft-tui models --search TEXT searches the hub")
    else:
        print(f"no model on the hub has {printable_line(text)} in its name")
    return 0


def _print(found: Sequence[ListedModel]) -> None:
    longest = max(len(printable_line(each.name)) for each in found)
    columns = shutil.get_terminal_size((120, 24)).columns
    width = max(NARROWEST_NAME, min(longest, columns - 70)) if sys.stdout.isatty() else longest
    for each in found:
        print(f"{printable_line(each.name):<{width}}  {facts(each)}  {outcome(each)}")


def download(name: str, *, as_json: bool) -> int:
    """Download a model and print where it is. Raises `MlxftError`."""
    from mlxft.hub.checked_file import DownloadCancelledError
    from mlxft.hub.download import download as fetch
    from mlxft_tui.terminal import invocation

    shown = _Shown(as_json=as_json)
    cancelled = threading.Event()
    # The application cancels by it: where a script has started that in its background, Ctrl+C is
    # ignored, also by this process.
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        folder = fetch(name, shown.take, cancelled)
    except (KeyboardInterrupt, DownloadCancelledError):
        shown.end()
        again = f"{invocation.command('download')} {name}"
        print(f"cancelled; what has arrived is kept, and {again} continues it", file=sys.stderr)
        return INTERRUPTED
    except MlxftError:
        shown.end()
        raise
    finally:
        signal.signal(signal.SIGTERM, before)
    shown.end()
    if as_json:
        print(json.dumps({"model": name, "folder": str(folder)}))
    else:
        print(f"{printable_line(name)} is in {figures.short_path(folder)}")
    return 0


class _Shown:
    """Progress on stderr: one line that changes on a terminal, else one every few seconds."""

    def __init__(self, *, as_json: bool) -> None:
        self._as_json = as_json
        self._on_terminal = sys.stderr.isatty()
        self._transfer = Transfer()
        self._printed: float | None = None
        self._width = 0

    def take(self, progress: ProgressMade) -> None:
        """Show how far a download is."""
        if self._as_json:
            row = {"stage": progress.stage, "done": progress.done, "total": progress.total}
            print(json.dumps(row), file=sys.stdout, flush=True)
            return
        now = time.monotonic()
        words = self._transfer.describe(progress, now)
        if self._on_terminal:
            self._width = max(self._width, len(words))
            print(f"\r{words:<{self._width}}", end="", file=sys.stderr, flush=True)
        elif self._printed is None or now - self._printed >= LINE_SECONDS:
            self._printed = now
            print(words, file=sys.stderr, flush=True)

    def end(self) -> None:
        """Leave the line of progress."""
        if self._width:
            print(file=sys.stderr)
            self._width = 0
