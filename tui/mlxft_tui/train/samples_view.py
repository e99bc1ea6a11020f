"""The model's answers to the recipe's sample prompt during training."""

from __future__ import annotations

from collections.abc import Sequence

from mlxft.runs.events import SampleAnswered
from mlxft.runs.view import RunView
from mlxft.text.printable import printable, printable_line
from mlxft_tui.text.cells import Row, wrapped
from mlxft_tui.widgets.remappable import with_keys
from mlxft_tui.widgets.scrollback import Scrollback

STEP = 11
"""Cells of the step column."""


class SamplesView(Scrollback[SampleAnswered]):
    """Each answer in full, with its step."""

    def __init__(self, id: str | None = None) -> None:  # noqa: A002
        super().__init__("samples", id)
        self._prompt = ""

    def show(self, view: RunView, prompt: str | None) -> None:
        """Show the answers to the prompt, the last one as it is generated."""
        self._prompt = printable_line(prompt or "")
        samples, progress = view.samples, view.progress
        if progress is not None and progress.stage == "sampling" and progress.note:
            samples = (*samples, _unfinished(view, progress.note, self._prompt))
        self.put(samples, max(0, len(samples) - len(self._items)))

    def note(self) -> Row:
        hint = with_keys(self, "set sample_prompt on the Recipe screen ({go.recipe})")
        return ((self._prompt or hint, "muted"),)

    def item_rows(self, item: SampleAnswered, width: int) -> Sequence[Row]:
        lines = [
            row
            for line in printable(item.text).strip().splitlines() or ["(nothing)"]
            for row in wrapped(line, "plain", width - STEP) or [()]
        ]
        margins = [f"step {item.step}".ljust(STEP), *[" " * STEP] * (len(lines) - 1)]
        return [((margin, "muted"), *row) for margin, row in zip(margins, lines, strict=True)]


def _unfinished(view: RunView, text: str, prompt: str) -> SampleAnswered:
    return SampleAnswered(step=view.step, prompt=prompt, text=f"{text}…", tokens=0, seconds=0.0)
