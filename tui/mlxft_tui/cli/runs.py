"""The commands that start, watch and control runs without the app."""

from __future__ import annotations

import sys
from collections.abc import Mapping

from mlxft import recipe as recipes
from mlxft.data.dataset import Split, require_trainable
from mlxft.engine.machine import refuse_if_training
from mlxft.engine.protocol import Continue, Pause, Stop
from mlxft.errors import MlxftError, RecipeError, RunError
from mlxft.recipe import Recipe
from mlxft.runs import events as ev
from mlxft.runs.directory import RunDirectory
from mlxft.runs.followed import FollowedRun, read_run
from mlxft.runs.journal import JournalReader
from mlxft.runs.more_steps import more_steps
from mlxft.text import path_json
from mlxft_tui.cli.following import await_start, print_until, send, watch
from mlxft_tui.session import Session
from mlxft_tui.terminal import invocation


def train(session: Session, recipe: Recipe, *, as_json: bool, detach: bool) -> int:
    """Start a run and print its events until it ends; with `detach` until its first step."""
    refuse_if_training(session.adapters)
    data = require_startable(session, recipe)
    directory = session.new_run(recipe)
    try:
        if not as_json:
            from mlxft_tui.cli.advice import print_advice

            print_advice(session, recipe, data)
        return _launch(session, directory, as_json=as_json, detach=detach)
    except MlxftError:
        session.discard_failed_start(directory)
        raise


def require_startable(session: Session, recipe: Recipe) -> tuple[Split, Split]:
    """The train and valid splits of a recipe that can be trained; a hub dataset is downloaded.

    Raises `RecipeError`, `DataError`, `ModelError` and `RunError`.
    """
    if not recipe.model:
        raise RecipeError("The recipe names no model; add one, or --set model=demo.")
    session.fetch_data(recipe)
    data = require_trainable(session.data(recipe), recipe)
    session.refuse_unusable_start(recipe)
    return data


def attach(directory: RunDirectory, *, as_json: bool) -> int:
    """Print a run's events from its start, and follow a live run to its end."""
    return watch(directory, JournalReader(directory.journal_file), as_json=as_json)


def resume(
    session: Session,
    directory: RunDirectory,
    changes: Mapping[str, object],
    *,
    as_json: bool,
    detach: bool,
) -> int:
    """Continue a paused run, or start an engine for one that has ended, with other values.

    Raises `RunError`, and `RecipeError` for values that a run can't continue with.
    """
    found = read_run(directory)
    if changes:
        _refuse_fixed(directory, changes)
        print(more_steps(found, directory.recipe(), changes), file=sys.stderr)
        session.change(directory, changes)
        return _continue(session, found, as_json=as_json, detach=detach)
    if found.state == "paused":
        send(directory, Continue())
        return print_until(directory, found, ev.RunContinued)
    if found.live:
        raise RunError(f"{directory.name}: this run is already running; attach to it instead.")
    if found.state == "finished":
        raise RunError(
            f"{directory.name}: this run has finished its {found.view.iters} steps; --iters trains "
            "it further."
        )
    return _continue(session, found, as_json=as_json, detach=detach)


def _continue(session: Session, run: FollowedRun, *, as_json: bool, detach: bool) -> int:
    """Start an engine for a run that has ended, after the advice for its recipe."""
    if not as_json:
        from mlxft_tui.cli.advice import print_advice_to_continue

        print_advice_to_continue(session, run.directory.recipe(), run)
    return _launch(session, run.directory, as_json=as_json, detach=detach)


def _refuse_fixed(directory: RunDirectory, changes: Mapping[str, object]) -> None:
    for key in changes:
        if recipes.find(key).declared.resume == "fixed":
            raise RecipeError(
                f"{key} can't be changed in {directory.name}, whose checkpoints depend on it; "
                "start a new run."
            )


def stop(directory: RunDirectory) -> int:
    """Stop a run after its current step and wait until it is saved. Raises `RunError`."""
    found = _live(directory)
    send(directory, Stop())
    return print_until(directory, found, ev.RunFinished)


def pause(directory: RunDirectory) -> int:
    """Pause a run after its current step. Raises `RunError`."""
    found = _live(directory)
    if found.state == "paused":
        raise RunError(f"{directory.name}: this run is already paused.")
    send(directory, Pause())
    return print_until(directory, found, ev.RunPaused)


def _launch(session: Session, directory: RunDirectory, *, as_json: bool, detach: bool) -> int:
    """Start an engine for a run and print its events from now on."""
    reader = JournalReader(directory.journal_file)
    reader.read()
    if detach:
        await_start(directory, reader, lambda: session.launch(directory))
        return _print_started(directory, as_json=as_json)
    return watch(directory, reader, as_json=as_json, launch=lambda: session.launch(directory))


def _live(directory: RunDirectory) -> FollowedRun:
    found = read_run(directory)
    if not found.live:
        ended = {"finished": "finished", "stopped": "stopped", "failed": "failed"}.get(found.state)
        raise RunError(
            f"{directory.name}: this run has already {ended}."
            if ended
            else f"{directory.name}: this run's engine died; "
            f"{invocation.of_run('resume', directory.path)} continues it."
        )
    return found


def _print_started(directory: RunDirectory, *, as_json: bool) -> int:
    if as_json:
        row = {"run": directory.name, "path": str(directory.path)}
        print(path_json.encode(row).decode())
    else:
        follow = invocation.of_run("attach", directory.path)
        print(f"{directory.name} has started; {follow} follows it")
    return 0
