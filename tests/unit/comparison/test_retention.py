"""Which runs stay, and what deleting the others frees."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

import msgspec
import pytest

from mlxft import recipe as recipes
from mlxft.comparison.labels import Labels, change_labels
from mlxft.comparison.retention import bytes_freed, delete, refuse_deletion, verdicts
from mlxft.comparison.table import RunRow, RunTable
from mlxft.errors import RunError
from mlxft.recipe import Recipe
from mlxft.runs import events as ev
from mlxft.runs.directory import RunDirectory, create
from support.journal import RUN_RECIPE, RUN_START, ended, trained_run, write_run

LOSSES = (0.9, 0.5, 0.8, 0.7)


@pytest.fixture
def runs(tmp_path: Path) -> list[RunDirectory]:
    """Four runs, one after the other, of which the second has the lowest validation loss."""
    found = []
    for loss in LOSSES:
        best = ev.ValidationFinished(step=2, loss=loss, tokens=9, seconds=1, best=True)
        found.append(write_run(tmp_path, RUN_RECIPE, [*trained_run(RUN_RECIPE, 2), best, ended(2)]))
    for age, run in enumerate(found):
        text = run.journal_file.read_text()
        start, later = f'"time":{RUN_START}', f'"time":{RUN_START + 1000 * age}'
        run.journal_file.write_text(text.replace(start, later, 1))
    return found


def rows(root: Path) -> tuple[RunRow, ...]:
    return RunTable(root).poll() or ()


def staying(root: Path, keep_last: int, keep_best: int) -> dict[str, str]:
    found = verdicts(rows(root), keep_last=keep_last, keep_best=keep_best)
    return {each.row.run: each.stays for each in found if each.stays}


def test_the_last_and_the_best_and_the_archived_stay(
    tmp_path: Path, runs: list[RunDirectory]
) -> None:
    last, best = runs[3].name, runs[1].name
    assert staying(tmp_path, 1, 1) == {last: "is among the last", best: "is among the best"}
    change_labels(runs[0], lambda labels: msgspec.structs.replace(labels, archived=True))
    assert staying(tmp_path, 1, 1).keys() == {last, best, runs[0].name}
    assert staying(tmp_path, 0, 0).keys() == {runs[0].name}


def test_a_base_stays_as_long_as_what_began_from_it(
    tmp_path: Path, runs: list[RunDirectory]
) -> None:
    first, second, third, _ = runs
    for base, name in ((first, "a"), (second, "b")):
        begun = on(base)
        made = write_run(tmp_path, begun, [*trained_run(begun, 1), ended(1)], name)
        change_labels(made, lambda labels: Labels(archived=True))
    waiting = create(tmp_path, on(third), "c", queued=True)
    found = verdicts(rows(tmp_path), queued=[waiting.path], keep_last=0)
    stay = {each.row.run: each.stays for each in found}
    assert stay[first.name] == "a-1 began from it"
    assert stay[third.name] == "c-1 began from it"
    with pytest.raises(RunError, match="the base of another run \\(b-1 began from it\\)"):
        refuse(tmp_path, second)


@pytest.mark.parametrize(
    "base",
    [
        "adapters/{run}",
        "adapters/{run}/checkpoints/2/adapters.safetensors",
        "linked/adapters.safetensors",
        "{folder}/checkpoints/2",
    ],
)
@pytest.mark.parametrize("is_queued", [False, True])
def test_any_path_in_a_runs_folder_protects_it(tmp_path: Path, base: str, is_queued: bool) -> None:
    root = tmp_path / "adapters"
    run = write_run(root, RUN_RECIPE, [*trained_run(RUN_RECIPE, 2), ended(2)])
    (tmp_path / "linked").symlink_to(run.path)
    base = base.format(run=run.name, folder=run.path)
    begun = recipes.replace(RUN_RECIPE, "resume_adapter_file", base)
    made = create(root, begun, "later", queued=is_queued)
    with pytest.raises(RunError, match="later-1 began from it"):
        refuse(root, run, (made.path,) if is_queued else ())


def test_what_stays_anyway_takes_no_place_of_the_last_or_the_best(
    tmp_path: Path, runs: list[RunDirectory]
) -> None:
    _, best, second, last = runs
    for each in (best, last):
        change_labels(each, lambda labels: msgspec.structs.replace(labels, pinned=True))
    lowest = ev.ValidationFinished(step=2, loss=0.1, tokens=9, seconds=1, best=True)
    live = write_run(tmp_path, RUN_RECIPE, [*trained_run(RUN_RECIPE, 2), lowest])
    with live.locked():
        assert staying(tmp_path, 0, 1) == {
            best.name: "is pinned",
            second.name: "is among the best",
            last.name: "is pinned",
            live.name: "is running; stop it first",
        }
        assert staying(tmp_path, 1, 0)[second.name] == "is among the last"


def on(base: RunDirectory) -> Recipe:
    """A recipe that begins from a run's adapter."""
    return recipes.replace(RUN_RECIPE, "resume_adapter_file", str(base.adapter_file))


def refuse(root: Path, run: RunDirectory, queued: tuple[Path, ...] = ()) -> None:
    found = rows(root)
    (row,) = (each for each in found if each.run == run.name)
    refuse_deletion(row, found, queued)


def test_live_and_queued_runs_cannot_be_deleted(tmp_path: Path) -> None:
    run = write_run(tmp_path, RUN_RECIPE, trained_run(RUN_RECIPE, 2))
    refuse(tmp_path, run)
    with pytest.raises(RunError, match="it is in the queue; remove it there first"):
        refuse(tmp_path, run, (run.path,))
    with contextlib.ExitStack() as stack:
        stack.enter_context(run.locked())
        with pytest.raises(RunError, match="it is running; stop it first"):
            refuse(tmp_path, run)


def test_only_what_has_no_other_name_is_freed(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    for name in ("twice", "elsewhere"):
        (folder / name).write_bytes(os.urandom(100_000))
    os.link(folder / "twice", folder / "again")
    os.link(folder / "elsewhere", tmp_path / "kept")
    freed = (folder / "twice").stat().st_blocks * 512
    assert freed >= 100_000
    assert bytes_freed([folder]) == freed


def test_a_run_that_is_a_link_is_removed_without_what_it_leads_to(
    tmp_path: Path, runs: list[RunDirectory]
) -> None:
    project = tmp_path / "project"
    project.mkdir()
    link = project / "linked"
    link.symlink_to(runs[0].path)
    assert bytes_freed([link]) == 0
    delete(RunDirectory(link))
    assert not link.is_symlink()
    assert runs[0].recipe_file.is_file()
    assert runs[0].journal_file.is_file()
