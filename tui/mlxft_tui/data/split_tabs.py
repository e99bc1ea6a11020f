"""The files of the data folder, with the number of records and faults in each."""

from __future__ import annotations

from textual import events
from textual.content import Content
from textual.message import Message
from textual.reactive import reactive
from textual.widget import Widget

from mlxft.data.folder_view import DataView, SplitView
from mlxft.text import figures
from mlxft.text.printable import printable_line
from mlxft_tui.text.theme import FAINT, MUTED


class SplitTabs(Widget):
    """train, valid and test in a line; the current one is bright and in brackets."""

    DEFAULT_CSS = """
    SplitTabs {
        height: 1;
        padding: 0 1;
    }
    """
    ALLOW_SELECT = False

    data: reactive[DataView | None] = reactive(None)
    present: reactive[str] = reactive("train")

    class Chosen(Message):
        """A tab was clicked."""

        def __init__(self, name: str) -> None:
            super().__init__()
            self.name = name

    def render(self) -> Content:
        if self.data is None:
            return Content.styled("reading the data folder", MUTED)
        tabs = Content(" ").join([self._tab(split) for split in self.data.splits])
        space = self.size.width - tabs.cell_length - 2
        where = Content.styled(printable_line(figures.short_path(self.data.folder)), FAINT)
        where = where.truncate(max(0, space), ellipsis=True)
        return Content.assemble(tabs, where.pad_left(max(0, space + 2 - where.cell_length)))

    def _tab(self, split: SplitView) -> Content:
        sign = "" if split.counted else "~"
        count = sign + figures.count(split.lines) if split.places else figures.NONE
        here = split.name == self.present
        faults = Content.styled(f" ✗{split.fault_count}" if split.fault_count else "", "$error")
        left, right = ("[", "]") if here else (" ", " ")
        style = "bold $foreground" if here else MUTED
        return Content.assemble((f"{left}{split.name} {count}", style), faults, (right, style))

    def on_click(self, event: events.Click) -> None:
        x, start = event.get_content_offset_capture(self).x, 0
        for split in self.data.splits if self.data else ():
            end = start + self._tab(split).cell_length
            if start <= x < end:
                self.post_message(self.Chosen(split.name))
                return
            start = end + 1
