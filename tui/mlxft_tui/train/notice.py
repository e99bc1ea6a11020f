"""The lines below the plot: pending commands, advice, and how the run ended."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from rich.cells import cell_len

from mlxft.advice.types import Advice
from mlxft.runs.directory import RunDirectory
from mlxft.runs.events import RunFailed, RunFinished
from mlxft.runs.followed import FollowedRun
from mlxft.runs.view import RunView, State
from mlxft.text import figures
from mlxft.text.printable import printable_line
from mlxft_tui.frame.pending import PendingCommand
from mlxft_tui.text.cells import Role, Row, Span, packed, tail, wrapped
from mlxft_tui.text.theme import STATE_LOOKS
from mlxft_tui.widgets.cell_view import CellView
from mlxft_tui.widgets.remappable import with_keys

RESUME, TRAIN, EXPORT = "{train.resume}", "{train.train}", "{train.export}"
"""Their keys, as `with_keys` reads them."""


class Notice(CellView):
    """As many lines as needed, at least one."""

    def __init__(self, id: str | None = None) -> None:  # noqa: A002
        super().__init__(id)
        self._write: Callable[[int], Sequence[Row]] = lambda _: ((),)

    def show(self, write: Callable[[int], Sequence[Row]]) -> None:
        """Show the rows that `write` returns for a width."""
        self._write = write
        self.repaint()

    def rows(self, width: int, height: int) -> Sequence[Row]:
        return [tuple(self._with_key(*span) for span in row) for row in self._write(width)]

    def _with_key(self, text: str, look: Role) -> Span:
        return (with_keys(self, text) if look == "smooth" else text, look)


def requested_row(pending: Sequence[PendingCommand], now: float) -> Row:
    """What the engine has not confirmed yet, with its age after a few seconds."""
    words = []
    for each in pending:
        ago = now - each.since
        words.append(each.text + (f" {figures.duration(ago)} ago" if ago >= 3 else ""))
    return (("requested: ", "warning"), (", ".join(words) + " …", "plain")) if words else ()


def advice_rows(advice: Advice | None, applicable: bool, width: int) -> list[Row]:
    """What to do and why, and the key that does it, if there is one."""
    if advice is None:
        return []
    text = f"→ {advice.message} ({advice.evidence})"
    rows = wrapped(text, "warning", width, "  ")
    if applicable:
        rows.append((("  ", "plain"), ("{train.apply}", "smooth"), (" applies it", "muted")))
    return rows


def ending_rows(run: FollowedRun, *, width: int, advice: Advice | None = None) -> list[Row]:
    """How the run ended, where its results are, and which keys continue from here.

    The change that `advice` has is one the run can be resumed with.
    """
    view, state = run.view, run.state
    if isinstance(view.ending, RunFinished):
        return _finished(view, view.ending, state, width=width, advice=advice)
    if isinstance(view.ending, RunFailed):
        message = printable_line(view.ending.message)
        log = view.ending.log
        return _failed(run, "failed", message, log=log, width=width, advice=advice)
    if state == "lost":
        message = f"the engine died at step {view.step} without reporting an error."
        log = str(run.directory.log_file)
        return _failed(run, state, message, log=log, width=width, advice=advice)
    return []


def _finished(
    view: RunView, ending: RunFinished, state: State, *, width: int, advice: Advice | None
) -> list[Row]:
    best, baseline = ending.best_validation_loss, ending.baseline_loss
    rows = packed(_result(view, ending, state), "   ", width, "  ")
    if best is not None and baseline is not None:
        change = figures.improvement(baseline, best)
        before = f"validation {figures.loss(baseline)} before training, "
        rows.append(((before, "muted"), (change, "good" if best < baseline else "warning")))
    rows += _costs(ending, width)
    if ending.best_validation_step not in (None, ending.step):
        rows.append(
            (
                (f"best adapter, step {ending.best_validation_step}: ", "muted"),
                (RunDirectory(Path(ending.adapter_path)).best_adapter_file.name, "plain"),
                ("; ", "muted"),
                ("{chat.models=o}", "smooth"),
                (" in Chat selects it", "muted"),
            )
        )
    rows += advice_rows(advice, False, width)
    stopped = ending.reason == "stopped"
    keys = _keys(
        ("{go.chat}", "chat with it"),
        (EXPORT, "export"),
        (RESUME, "resume") if stopped else (TRAIN, "train again"),
        ("{go.runs}", "all runs"),
        ("{runs.more_steps=m}", "more steps, on Runs"),
    )
    return [*rows, keys]


def _result(view: RunView, ending: RunFinished, state: State) -> list[Row]:
    """How the run ended, and its losses."""
    look = STATE_LOOKS[state]
    how = "sweep's round ended" if ending.ends_round else look.word.lower()
    since = f" since step {ending.since_step}" if ending.since_step else ""
    parts: list[Row] = [
        (
            (f"{look.symbol} {how}", "good"),
            (f" at step {ending.step} after {figures.duration(ending.seconds)}", "plain"),
            *(((since, "muted"),) if since else ()),
        )
    ]
    if ending.reason == "stopped" and ending.step >= view.iters:
        parts.append((("without the final validation", "warning"),))
    final = view.loss
    if ending.first_loss is not None and final is not None:
        losses = f"{figures.loss(ending.first_loss)} → {figures.loss(final)}"
        parts.append((("loss ", "muted"), (losses, "strong")))
    best = ending.best_validation_loss
    if best is not None:
        step = f" @{ending.best_validation_step}"
        parts.append((("best val ", "muted"), (figures.loss(best), "best"), (step, "muted")))
    return parts


def _costs(ending: RunFinished, width: int) -> list[Row]:
    """Speed, memory and the adapter's folder, whose end is shown in any width."""
    costs = (
        f"{figures.rate(ending.tokens_per_second)} tok/s   "
        f"peak {figures.gigabytes(ending.peak_memory)} GB   "
    )
    path, label = printable_line(figures.shown_path(ending.adapter_path)), "adapter "
    if cell_len(costs) + len(label) + cell_len(path) <= width:
        return [((costs, "muted"), (label, "muted"), (path, "plain"))]
    return [((costs, "muted"),), ((label, "muted"), (tail(path, width - len(label)), "plain"))]


def _failed(
    run: FollowedRun,
    state: State,
    message: str,
    *,
    log: str,
    width: int,
    advice: Advice | None = None,
) -> list[Row]:
    look = STATE_LOOKS[state]
    rows = wrapped(f"{look.symbol} {look.word.lower()}: {message}", "bad", width, "  ")
    applicable = run.is_kept and advice is not None and advice.change is not None
    rows += advice_rows(advice, applicable, width)
    again = (TRAIN, "train again")
    if not run.is_kept:
        return [*rows, _keys(again)]
    path, label = printable_line(figures.shown_path(log)), "log "
    rows.append(((label, "muted"), (tail(path, width - len(label)), "plain")))
    if run.view.checkpoints:
        saved = run.view.checkpoints[-1].step
        return [*rows, _keys((RESUME, f"resume from step {saved}"), again)]
    return [*rows, _keys((RESUME, "restart it"), again)]


def _keys(*keys: tuple[str, str]) -> Row:
    runs: list[Span] = []
    for key, meaning in keys:
        runs += [(key, "smooth"), (f" {meaning}   ", "muted")]
    return tuple(runs)
