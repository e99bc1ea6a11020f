"""The dialog for splitting a file into train, valid and test."""

from __future__ import annotations

from typing import ClassVar, Final, Literal

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.content import Content
from textual.message import Message
from textual.widgets import Static

from mlxft.data.splitting import Shares
from mlxft.text import figures
from mlxft.text.printable import printable_line
from mlxft_tui.frame.sheet import Sheet
from mlxft_tui.text.theme import MUTED
from mlxft_tui.widgets.line_list import LineList

STEPS: Final = (0.0, 0.01, 0.02, 0.05, 0.1, 0.15, 0.2, 0.3)
"""Selectable shares."""

ROWS: Final = (
    ("valid", "to evaluate during training"),
    ("test", "to evaluate afterwards"),
    ("seed", "for the random choice of records"),
)


class ShareList(LineList, keys="split"):
    """A line per setting; left and right change it."""

    HELP = """How much of the file to hold out. Near duplicates stay in the same split, and each
    file of a dataset contributes its share. New files are written, yours don't change."""
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("left,h", "step(-1)", "Change", key_display="←→", tooltip="Less", id="less"),
        Binding("right,l", "step(1)", "More", show=False, id="more"),
    ]

    class Changed(Message):
        """A share or the seed was changed."""

    def __init__(self) -> None:
        super().__init__()
        self.shares = Shares(0.1, 0.1)
        self.seed = 0

    def on_mount(self) -> None:
        self.count = len(ROWS)

    def line(self, index: int, width: int) -> Content:
        name, meaning = ROWS[index]
        shown = (f"{self.shares.valid:.0%}", f"{self.shares.test:.0%}", str(self.seed))[index]
        return Content.assemble(
            (f"{name:<7}", "bold"), "‹ ", (shown, "bold $accent"), " ›", (f"  {meaning}", MUTED)
        )

    def action_step(self, direction: Literal[-1, 1]) -> None:
        """Choose the next or previous value of the setting under the cursor."""
        valid, test = self.shares.valid, self.shares.test
        match ROWS[self.cursor][0]:
            case "valid":
                self.shares = Shares(_stepped(valid, direction), test)
            case "test":
                self.shares = Shares(valid, _stepped(test, direction))
            case _:
                self.seed = max(0, self.seed + direction)
        self.refresh()
        self.post_message(self.Changed())


def _stepped(share: float, direction: Literal[-1, 1]) -> float:
    return STEPS[min(max(STEPS.index(share) + direction, 0), len(STEPS) - 1)]


class SplitDialog(Sheet[tuple[Shares, int]], keys="split"):
    """Returns the shares and the seed; None if cancelled."""

    CSS_PATH = "split.tcss"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter", "accept", "Split", priority=True, id="make"),
        Binding("escape,q", "cancel", "Cancel"),
    ]

    def __init__(self, file: str, records: int, folder: str) -> None:
        super().__init__()
        self._file = file
        self._records = records
        self._folder = folder

    def compose(self) -> ComposeResult:
        with Vertical(id="split") as dialog:
            dialog.border_title = "hold out records"
            yield ShareList()
            yield Static(id="outcome")

    def on_mount(self) -> None:
        self.on_share_list_changed()

    def on_share_list_changed(self) -> None:
        shares = self.query_one(ShareList).shares
        valid, test = (round(each * self._records) for each in (shares.valid, shares.test))
        train = self._records - valid - test
        counts = f"train {figures.count(train)}, valid {figures.count(valid)}, "
        lines = (
            f"{printable_line(self._file)}: {counts}test {figures.count(test)}",
            f"written to {printable_line(self._folder)}/, the recipe's new data",
        )
        self.query_one("#outcome", Static).update(Content.styled("\n".join(lines), MUTED))

    def shown(self) -> tuple[Shares, int]:
        chosen = self.query_one(ShareList)
        return chosen.shares, chosen.seed
