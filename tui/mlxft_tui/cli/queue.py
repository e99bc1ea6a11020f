"""The commands of the queue."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import msgspec

from mlxft.errors import RunError
from mlxft.queue import entries
from mlxft.queue.entries import Entry, Queue
from mlxft.queue.removal import remove as remove_entry
from mlxft.queue.service import install, own_service, uninstall
from mlxft.queue.start import ensure_supervisor, root_warning
from mlxft.queue.store import own_store
from mlxft.runs import lock
from mlxft.runs.followed import read_run
from mlxft.text import figures, path_json
from mlxft.text.printable import printable_line
from mlxft_tui.terminal import invocation

SHOWN_ENDED: Final = 10
"""Latest ended entries that are printed; JSON has all that are kept."""


def add(arguments: argparse.Namespace) -> int:
    """Add a run of a recipe; it is checked as `train` does, so that it can start later."""
    from mlxft import recipe as recipes
    from mlxft_tui.cli.runs import require_startable
    from mlxft_tui.session import Session

    recipe = recipes.load(arguments.recipe, arguments.set)
    if arguments.name is not None:
        recipe = recipes.replace(recipe, "run_name", arguments.name)
    session = Session(arguments.dir)
    require_startable(session, recipe)
    if warning := root_warning():
        print(warning, file=sys.stderr)
    entry = session.enqueue(recipe)
    if arguments.json:
        return _print_json(_mapping(entry))
    name = printable_line(entry.directory.name)
    print(f"{entry.id}  {name} waits; {invocation.command('queue list')} shows the queue")
    return 0


def show(arguments: argparse.Namespace) -> int:
    """List the entry that trains, those that wait, and the latest that have ended."""
    store = own_store()
    ensure_supervisor(store)
    return _show(store.read(), as_json=arguments.json)


def move(arguments: argparse.Namespace) -> int:
    """Move an entry to another place."""
    return _change(
        arguments, lambda queue, numbers: entries.moved(queue, numbers[0], arguments.place)
    )


def hold(arguments: argparse.Namespace) -> int:
    """Hold entries, or the whole queue."""
    return _change(arguments, entries.held)


def release(arguments: argparse.Namespace) -> int:
    """Release entries, or the whole queue."""
    return _change(arguments, entries.released)


def run_now(arguments: argparse.Namespace) -> int:
    """Start an entry at once."""
    return _change(arguments, lambda queue, numbers: entries.urgent(queue, numbers[0]))


def remove(arguments: argparse.Namespace) -> int:
    """Remove entries that wait. Raises `RunError` for the first that doesn't."""
    store = own_store()
    found = [entries.find(store.read(), name) for name in arguments.entry]
    for entry in found:
        remove_entry(store, entry)
    return _show(store.read(), as_json=arguments.json)


def stop(arguments: argparse.Namespace) -> int:
    """Stop the entry that trains, saved. Raises `RunError` if none does."""
    from mlxft_tui.cli import runs

    running = own_store().read().running
    if running is None:
        raise RunError("No run of the queue is training; mlxft-tui queue list shows what waits.")
    status = runs.stop(running.directory)
    ensure_supervisor(own_store())
    return status


def install_service(arguments: argparse.Namespace) -> int:
    """Have the system start the supervisor after a login or a reboot."""
    found = own_service()
    if arguments.print:
        for path, text in found.files.items():
            print(f"# {path}\n{text}")
        return 0
    install(found)
    written = ", ".join(figures.short_path(path) for path in found.files)
    print(f"installed: the queue continues after a login or a reboot ({written})")
    return 0


def uninstall_service(arguments: argparse.Namespace) -> int:
    """Remove what `install_service` has written."""
    print("uninstalled" if uninstall(own_service()) else "it wasn't installed")
    return 0


ACTIONS: Final[dict[str, Callable[[argparse.Namespace], int]]] = {
    "add": add,
    "list": show,
    "move": move,
    "hold": hold,
    "release": release,
    "remove": remove,
    "run-now": run_now,
    "stop": stop,
    "install": install_service,
    "uninstall": uninstall_service,
}


def _change(arguments: argparse.Namespace, change: Callable[[Queue, list[int]], Queue]) -> int:
    """Change the queue for the named entries, and show it."""
    names = [arguments.entry] if isinstance(arguments.entry, str) else arguments.entry

    def changed(queue: Queue) -> Queue:
        return change(queue, [entries.find(queue, name).id for name in names])

    store = own_store()
    queue = store.change(changed)
    ensure_supervisor(store)
    return _show(queue, as_json=arguments.json)


def _show(queue: Queue, *, as_json: bool) -> int:
    if as_json:
        supervisor = lock.holder(own_store().supervisor_lock)
        return _print_json(
            {
                "held": queue.held,
                "supervisor": int(supervisor) if supervisor and supervisor.isdecimal() else None,
                "running": _mapping(queue.running) if queue.running else None,
                "waiting": [_mapping(each) for each in queue.waiting],
                "ended": [_mapping(each) for each in queue.ended],
            }
        )
    shown = [*queue.ended[-SHOWN_ENDED:], *queue.entries]
    if not shown:
        print(f"nothing waits; {invocation.command('queue add RECIPE.yaml')} adds a run")
    width = max((len(printable_line(each.directory.name)) for each in shown), default=0)
    for each in shown:
        name = printable_line(each.directory.name).ljust(width)
        print(f"{each.id:>4}  {each.state:<8}  {name}  {_about(each)}")
    if queue.held:
        print(f"the queue is held; {invocation.command('queue release')} lets it continue")
    return 0


def _about(entry: Entry) -> str:
    """What became of an entry, how far it is, or where its project is."""
    if entry.ended is not None:
        return printable_line(f"{entry.reason}  {figures.age(time.time() - entry.ended)}")
    place = printable_line(figures.short_path(_project(entry)))
    if entry.state == "running":
        view = read_run(entry.directory).view
        return f"step {view.step}/{view.iters}  {place}" if view.iters else f"starting  {place}"
    return f"starts at once  {place}" if entry.urgent else place


def _project(entry: Entry) -> Path:
    return entry.directory.path.parent.parent


def _mapping(entry: Entry) -> dict[str, Any]:
    found: dict[str, Any] = msgspec.to_builtins(entry)
    for internal in ("after_seq", "launches", "saved_step", "yields"):
        del found[internal]
    return {**found, "name": entry.directory.name}


def _print_json(value: object) -> int:
    print(path_json.indented(value, 1).decode())
    return 0
