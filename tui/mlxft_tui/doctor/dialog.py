"""The doctor's dialog: what was found, the self-test's progress, and its table."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import chain
from typing import ClassVar, Final, Literal

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.content import Content

from mlxft.doctor.checkup import Report
from mlxft.doctor.report_text import (
    WIDEST,
    Line,
    part_lines,
    report_lines,
    section_lines,
    self_test_lines,
    self_test_summary,
)
from mlxft.doctor.self_test.self_test import PartResult, SelfTest
from mlxft.doctor.self_test.watch import Progress
from mlxft.text.printable import printable, printable_line
from mlxft_tui.frame.sheet import Sheet
from mlxft_tui.text.theme import MUTED
from mlxft_tui.widgets.notices import inform
from mlxft_tui.widgets.text_pane import TextPane

STYLES: Final = {
    "ok": "$success",
    "note": MUTED,
    "skipped": MUTED,
    "left out": "$warning",
    "warning": "$warning",
    "problem": "$error",
    "differs": "$error",
}
"""The style of each verdict's word."""


@dataclass(frozen=True, kw_only=True)
class DoctorState:
    """What the doctor has found, and how far a self-test is."""

    report: Report | None = None
    machines: Report | None = None
    """The machines of the recipe's hosts; their names aren't for an issue."""
    asks_machines: bool = False
    problem: str = ""
    """Why the self-test could not be done."""
    running: bool = False
    cancelling: bool = False
    progress: Progress | None = None
    parts: tuple[PartResult, ...] = ()
    """The checks of a running self-test so far."""
    found: SelfTest | None = None
    file: str = ""
    """The self-test's file to share."""

    def after(self, progress: Progress) -> DoctorState:
        """With the progress, and the check that it brings."""
        if progress.latest is None:
            return replace(self, progress=progress)
        parts = {each.title: each.checks for each in self.parts}
        parts[progress.part] = [*parts.get(progress.part, ()), progress.latest]
        return replace(
            self,
            progress=progress,
            parts=tuple(PartResult(title, checks) for title, checks in parts.items()),
        )


class DoctorDialog(Sheet[Literal["close"]], keys="doctor"):
    """Shows the doctor's findings; closing it leaves a self-test running."""

    CSS_PATH = "dialog.tcss"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("s", "start", "Self-test", tooltip="Measure this machine for some minutes"),
        Binding("c", "stop", "Cancel the self-test", id="stop"),
        Binding("y", "copy", "Copy", tooltip="Copy the report for an issue"),
        Binding("escape,q", "cancel", "Close", tooltip="Close; a self-test continues", id="close"),
    ]

    def __init__(
        self, state: DoctorState, start: Callable[[], None], stop: Callable[[], None]
    ) -> None:
        super().__init__()
        self._state = state
        self._start, self._stop = start, stop
        self._text = TextPane("findings")

    def compose(self) -> ComposeResult:
        with Vertical(id="doctor") as dialog:
            dialog.border_title = "Doctor"
            yield self._text

    def on_mount(self) -> None:
        self.show(self._state)
        self._text.focus()

    def show(self, state: DoctorState) -> None:
        """Show what was found until now."""
        self._state = state
        self._text.show(lambda width: described(state, width))
        self.refresh_bindings()

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        match action:
            case "start":
                return not self._state.running
            case "stop":
                return self._state.running and not self._state.cancelling
            case "copy":
                return self._state.report is not None
            case _:
                return super().check_action(action, parameters)

    def action_start(self) -> None:
        """Start the self-test."""
        self._start()

    def action_stop(self) -> None:
        """Cancel the self-test and everything it has started."""
        self._stop()

    def action_copy(self) -> None:
        """Copy the report, and the self-test's table once it is there."""
        state = self._state
        if state.report is not None:
            tables = [report_lines(state.report, WIDEST)]
            if state.found is not None:
                tables.append(self_test_lines(state.found, WIDEST))
            text = "\n\n".join("\n".join(each.text for each in lines) for lines in tables)
            self.app.copy_to_clipboard(text)
            inform(self, "Copied, without personal details.")


def described(state: DoctorState, width: int) -> Content:
    """The self-test if there is one, then the findings."""
    lines = [*_self_test(state, width)]
    if lines:
        lines.append(Content(""))
    if state.report is None:
        return Content("\n").join([*lines, Content.styled("reading the machine…", MUTED)])
    lines += [*_machines(state, width), *map(_styled, report_lines(state.report, width))]
    return Content("\n").join(lines)


def _machines(state: DoctorState, width: int) -> Iterator[Content]:
    if state.asks_machines:
        yield Content.styled("asking the machines of hosts…", MUTED)
        yield Content("")
    elif state.machines is not None:
        for section in state.machines.sections:
            yield from map(_styled, section_lines(section, width))
            yield Content("")


def _self_test(state: DoctorState, width: int) -> Iterator[Content]:
    if state.problem:
        yield Content.styled(printable(state.problem), "$error")
    if state.running:
        yield Content.styled("Self-test", "bold $accent")
        yield _progress(state)
        yield from map(_styled, part_lines(_differing(state.parts), width))
        hint = "It continues while this is closed; a run started meanwhile disturbs it."
        yield Content.styled(hint, MUTED)
    elif state.found is not None:
        yield Content.styled("Self-test", "bold $accent")
        yield from map(_styled, self_test_lines(state.found, width))
        yield Content.styled(f"{state.file} has all figures; share it.", MUTED)


def _progress(state: DoctorState) -> Content:
    if state.cancelling:
        return Content("cancelling…")
    if state.progress is None:
        return Content("starting…")
    checks = list(chain.from_iterable(each.checks for each in state.parts))
    summary = self_test_summary(checks, state.progress.seconds)
    where = f"{state.progress.part} ({state.progress.number} of {state.progress.parts})"
    return Content(printable_line(f"{where}: {state.progress.subject}  {summary}"))


def _differing(parts: Iterable[PartResult]) -> Iterator[PartResult]:
    """The parts that have checks which differ, with those alone."""
    for part in parts:
        if found := [each for each in part.checks if each.outcome == "differs"]:
            yield PartResult(part.title, found)


def _styled(line: Line) -> Content:
    text = printable(line.text)
    if line.is_title:
        return Content.styled(text, "bold")
    if not line.verdict:
        return Content(text)
    indent = len(text) - len(text.lstrip())
    word = (text[: indent + len(line.verdict)], STYLES.get(line.verdict, ""))
    return Content.assemble(word, text[indent + len(line.verdict) :])
