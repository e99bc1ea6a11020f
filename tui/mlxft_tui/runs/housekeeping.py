"""Keys of the Runs screen that label runs, and delete those that aren't needed."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from functools import partial
from typing import ClassVar, Final

import msgspec
from textual import work
from textual.binding import Binding, BindingType
from textual.message import Message
from textual.widget import AwaitMount

from mlxft.comparison.labels import Labels, change_labels, with_tags
from mlxft.comparison.retention import Verdict, verdicts
from mlxft.comparison.table import RunRow
from mlxft.errors import MlxftError
from mlxft.text import figures
from mlxft.text.printable import printable_line
from mlxft_tui.frame.confirm import ConfirmDialog
from mlxft_tui.frame.messages import DeletionRequested
from mlxft_tui.frame.screen import AppScreen
from mlxft_tui.runs.labels_dialog import LabelsDialog
from mlxft_tui.terminal.key_queue import DIALOG
from mlxft_tui.widgets.ask_line import AskLine
from mlxft_tui.widgets.notices import show_error, warn

KEEP: Final = "runs to keep: last, best"
"""The question about which runs to keep."""

KEPT: Final = "10, 3"

NAMED: Final = 3
"""Runs that a question names."""

HOUSEKEEPING_BINDINGS: Final[list[BindingType]] = [
    Binding("n", "label", "Notes", tooltip="Name, tags and notes of the run"),
    Binding("p", "pin", "Pin", show=False, tooltip="Keep it above all others, or no longer"),
    Binding("a", "archive", "Archive", show=False, tooltip="Hide it, or show it again"),
    Binding("d", "delete", "Delete", tooltip="Remove the run with its adapters"),
    Binding("D", "tidy", "Tidy", show=False, tooltip="Delete all but some last and best runs"),
]


class HousekeepingScreen(AppScreen, keys="runs"):
    """Acts on the marked runs, or on the one under the cursor."""

    BINDINGS: ClassVar[list[BindingType]] = []

    def acted_on(self) -> tuple[RunRow, ...]:
        """The marked runs, or else the one under the cursor."""
        raise NotImplementedError

    def all_rows(self) -> tuple[RunRow, ...]:
        """Every run of the project."""
        raise NotImplementedError

    def read_again(self) -> None:
        """Show what has changed."""
        raise NotImplementedError

    # Labels

    def action_label(self) -> None:
        """Edit name, tags and notes; several runs get the tags and the notes."""
        rows = self.acted_on()
        if not rows:
            return
        labels = rows[0].labels if len(rows) == 1 else Labels()
        title = rows[0].run if len(rows) == 1 else f"{len(rows)} runs"
        values = {"name": labels.name, "tags": ", ".join(labels.tags), "notes": labels.notes}

        def edited(written: dict[str, str] | None) -> None:
            if written:
                change = _written if len(rows) == 1 else _added
                self._change_labels(rows, partial(change, written))

        self.app.push_screen(LabelsDialog(title, values), edited)

    def action_pin(self) -> None:
        self._switch("pinned")

    def action_archive(self) -> None:
        self._switch("archived")

    def _switch(self, name: str) -> None:
        """Switch a label on, or off if all of the runs have it."""
        rows = self.acted_on()
        value = not all(getattr(row.labels, name) for row in rows)
        self._change_labels(rows, lambda labels: msgspec.structs.replace(labels, **{name: value}))

    @work(group="labels")
    async def _change_labels(
        self, rows: Sequence[RunRow], change: Callable[[Labels], Labels]
    ) -> None:
        try:
            for row in rows:
                await asyncio.to_thread(change_labels, row.directory, change)
        except MlxftError as error:
            self.refuse(error)
        self.read_again()

    # Deletion

    def action_delete(self) -> None:
        """Delete the runs, after a question that says what that frees."""
        self._ask_about(self.acted_on(), keep=None)

    def action_tidy(self) -> None:
        """Ask how many runs to keep."""
        self.query_one(AskLine).ask(KEEP, KEPT)

    def tidy(self, text: str) -> None:
        """Delete all but some runs, after a question."""
        try:
            last, best = (int(each) for each in text.replace(",", " ").split())
        except ValueError:
            show_error(self, "Write two numbers, as in 10, 3.")
            return
        self._ask_about(self.all_rows(), keep=(max(0, last), max(0, best)))

    @work(group=DIALOG, exclusive=True)
    async def _ask_about(self, rows: Sequence[RunRow], keep: tuple[int, int] | None) -> None:
        """Find out what deleting these runs frees, and ask."""
        everything = self.all_rows()
        last, best = keep if keep is not None else (None, None)

        def judged() -> tuple[Verdict, ...]:
            return verdicts(
                everything,
                queued=self.session.queued_folders(),
                keep_last=last,
                keep_best=best,
                among=None if keep is not None else rows,
            )

        try:
            found = await asyncio.to_thread(judged)
        except MlxftError as error:
            self.refuse(error)
            return
        doomed = [each for each in found if not each.stays]
        if not doomed:
            warn(self, _all_stay(found))
            return
        # A run's base can only be deleted after it.
        doomed.sort(key=lambda each: each.row.summary.started or 0.0, reverse=True)
        request = DeletionRequested(tuple(each.row.directory for each in doomed))
        keep_it = "Keep them" if len(doomed) > 1 else "Keep it"
        await self.ask(_question(found), "Delete", keep_it, request)

    # Questions

    def ask(self, question: str, yes: str, no: str, then: Message) -> AwaitMount:
        """Post a message after a question that is answered with yes."""

        def answered(confirmed: bool | None) -> None:
            if confirmed:
                self.post_message(then)

        return self.app.push_screen(ConfirmDialog(printable_line(question), yes, no), answered)

    def refuse(self, error: MlxftError) -> None:
        """Say why something isn't done."""
        show_error(self, error)


def _written(written: dict[str, str], labels: Labels) -> Labels:
    """The labels with what was written into the dialog's fields."""
    tags = labels.tags
    if "tags" in written:
        tags = tuple(each.strip() for each in written["tags"].split(",") if each.strip())
    name, notes = written.get("name", labels.name), written.get("notes", labels.notes)
    return msgspec.structs.replace(labels, name=name, notes=notes, tags=tags)


def _added(written: dict[str, str], labels: Labels) -> Labels:
    """The labels with the tags added, and the notes replaced, that several runs get."""
    tags = tuple(each.strip() for each in written.get("tags", "").split(",") if each.strip())
    notes = written.get("notes", labels.notes)
    return with_tags(msgspec.structs.replace(labels, notes=notes), tags)


def _question(found: Sequence[Verdict]) -> str:
    """What is deleted, what that frees, and what stays."""
    doomed = [each for each in found if not each.stays]
    freed = figures.size(sum(each.freed for each in doomed))
    if len(found) == 1:
        name = doomed[0].row.title
        return f"Delete {name} with its adapters? This frees {freed} and can't be undone."
    names = ", ".join(each.row.title for each in doomed[:NAMED])
    more = f" and {len(doomed) - NAMED} more" if len(doomed) > NAMED else ""
    runs = "run" if len(doomed) == 1 else "runs"
    stays = len(found) - len(doomed)
    kept = f" {stays} {'stays' if stays == 1 else 'stay'}." if stays else ""
    return (
        f"Delete {len(doomed)} {runs} with their adapters: {names}{more}? This frees {freed} and "
        f"can't be undone.{kept}"
    )


def _all_stay(found: Sequence[Verdict]) -> str:
    if not found:
        return "There is no run to delete."
    first = found[0]
    why = f"it {first.stays}" if first.stays.startswith("is ") else first.stays
    reason = f"{first.row.title} stays: {why}."
    return printable_line(reason if len(found) == 1 else f"All {len(found)} runs stay. {reason}")
