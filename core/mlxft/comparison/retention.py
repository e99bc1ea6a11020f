"""Which runs are kept, what deleting others frees, and which can't be deleted."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from mlxft import recipe as recipes
from mlxft.comparison.columns import find_order, sorted_rows
from mlxft.comparison.table import RunRow
from mlxft.errors import RecipeError, RunError, StorageError
from mlxft.runs.directory import RunDirectory
from mlxft.storage.paths import expanded


@dataclass(frozen=True)
class Verdict:
    """Whether a run would be deleted, or why it stays."""

    row: RunRow
    stays: str = ""
    """Why; empty for one that would be deleted."""
    freed: int = 0
    """Bytes on disk that deleting it frees."""


def verdicts(
    rows: Sequence[RunRow],
    *,
    queued: Collection[Path] = (),
    keep_last: int | None = None,
    keep_best: int | None = None,
    among: Collection[RunRow] | None = None,
    spare_labelled: bool | None = None,
) -> tuple[Verdict, ...]:
    """What would become of runs, of `among` or else of all, in their order.

    Archived and pinned runs stay if `spare_labelled`, by default unless `among` alone names them.
    Of the others the last ones by their start stay, and the best by validation loss of each model
    and data, whose losses can be compared; a run that stays anyway takes none of their places. A
    base stays as long as a run that began from it does. `queued` are the folders of runs that the
    queue has.
    """
    chosen = {each.directory for each in (rows if among is None else among)}
    candidates = [each for each in rows if each.directory in chosen]
    if spare_labelled is None:
        spare_labelled = among is None or keep_last is not None or keep_best is not None
    stays = _labelled(rows) if spare_labelled else {}
    stays |= _in_use(candidates, queued)
    others = [each for each in candidates if each.directory not in stays]
    for each in _best(others, keep_best or 0):
        stays[each.directory] = "is among the best"
    for each in _last(others, keep_last or 0):
        stays.setdefault(each.directory, "is among the last")
    begun = [(each.directory, each.value("resume_adapter_file")) for each in rows]
    _keep_bases(candidates, [*begun, *_begun_by(queued)], stays)
    return tuple(
        Verdict(each, stays[each.directory])
        if each.directory in stays
        else Verdict(each, freed=bytes_freed([each.directory.path]))
        for each in candidates
    )


def _labelled(rows: Sequence[RunRow]) -> dict[RunDirectory, str]:
    archived = {each.directory: "is archived" for each in rows if each.labels.archived}
    return archived | {each.directory: "is pinned" for each in rows if each.labels.pinned}


def _in_use(rows: Sequence[RunRow], queued: Collection[Path]) -> dict[RunDirectory, str]:
    waiting = {each.resolve() for each in queued}
    stays: dict[RunDirectory, str] = {}
    for each in rows:
        if each.live:
            stays[each.directory] = "is running; stop it first"
        elif each.directory.path.resolve() in waiting:
            stays[each.directory] = "is in the queue; remove it there first"
    return stays


def _keep_bases(
    candidates: Sequence[RunRow],
    begun: Sequence[tuple[RunDirectory, str | None]],
    stays: dict[RunDirectory, str],
) -> None:
    """Add the runs that another one, which stays, has begun from.

    `begun` are all runs, with the adapter that each began from.
    """
    folders = {each.directory.path.resolve(): each.directory for each in candidates}
    doomed = {each.directory for each in candidates} - stays.keys()
    left = [each for each in begun if each[0] not in doomed]
    while left:
        run, base = left.pop()
        bases = {folders.get(each) for each in _folders_of(run, base)} if base else set()
        for directory in doomed & bases:
            stays[directory] = f"{run.name} began from it"
            doomed.remove(directory)
            left += [each for each in begun if each[0] == directory]


def _folders_of(run: RunDirectory, base: str) -> set[Path]:
    """The folders that hold what a run began from: an adapter's folder, or a file anywhere in it.

    A relative path counts from the project's folder. A link's own place counts as well as what it
    leads to.
    """
    place = run.path.absolute().parent.parent / expanded(base)
    real = place.resolve()
    return {real, *real.parents, *(each.resolve() for each in place.parents)}


def _begun_by(queued: Iterable[Path]) -> Iterator[tuple[RunDirectory, str | None]]:
    """The runs that wait, with the adapter that each will begin from."""
    for folder in queued:
        with contextlib.suppress(RecipeError):
            run = RunDirectory(folder)
            yield run, recipes.load_of_run(run.queued_recipe_file).resume_adapter_file


def _best(rows: Sequence[RunRow], count: int) -> Iterator[RunRow]:
    groups = defaultdict(list)
    for row in rows:
        if row.summary.best_validation_loss is not None:
            groups[tuple(str(row.value(key)) for key in ("model", "data", "loss"))].append(row)
    for group in groups.values():
        yield from sorted_rows(group, find_order("best_validation_loss"))[:count]


def _last(rows: Iterable[RunRow], count: int) -> list[RunRow]:
    return sorted_rows(rows, find_order("-started"))[:count]


def refuse_deletion(row: RunRow, rows: Sequence[RunRow], queued: Collection[Path] = ()) -> None:
    """Raise `RunError` for a run that runs, waits or is the base of another one."""
    (found,) = verdicts(rows, queued=queued, among=(row,))
    if found.stays:
        raise RunError(f"{row.run} can't be deleted: it {_as_sentence(found.stays)}.")


def _as_sentence(stays: str) -> str:
    return stays if stays.startswith("is ") else f"is the base of another run ({stays})"


def bytes_freed(folders: Iterable[Path]) -> int:
    """Bytes on disk that deleting these folders frees; files with other names elsewhere stay."""
    seen: dict[tuple[int, int], tuple[int, int]] = {}
    for folder in folders:
        if folder.is_symlink():
            continue  # Only the link is deleted.
        for place, _, names in os.walk(folder):
            for name in names:
                try:
                    found = os.lstat(os.path.join(place, name))
                except OSError:
                    continue
                key = found.st_dev, found.st_ino
                links, _ = seen.get(key, (found.st_nlink, 0))
                seen[key] = links - 1, found.st_blocks * 512
    return sum(size for links, size in seen.values() if links <= 0)


def delete(directory: RunDirectory) -> None:
    """Delete a run with its adapters and checkpoints, or the link alone where its folder is one.

    Raises `RunError` if it is live, and `StorageError`.
    """
    with directory.locked():
        try:
            if directory.path.is_symlink():
                directory.path.unlink()
                return
            # Without its recipe a folder is no run, so a deletion that is cut leaves none.
            directory.recipe_file.unlink(missing_ok=True)
            shutil.rmtree(directory.path)
        except OSError as error:
            raise StorageError(
                f"{directory.path}: can't delete the run ({error.strerror or error})."
            ) from None
