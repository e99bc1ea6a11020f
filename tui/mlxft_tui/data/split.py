"""How a set is divided into train, valid and test: a small sheet."""

from __future__ import annotations

from typing import ClassVar, Final, Literal

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.content import Content
from textual.message import Message
from textual.screen import ModalScreen
from textual.widgets import Static

from mlxft.data.splitting import Shares
from mlxft.text import figures
from mlxft.text.printable import printable_line
from mlxft_tui.text.theme import MUTED
from mlxft_tui.widgets.line_list import LineList
from mlxft_tui.widgets.remappable import Remappable

STEPS: Final = (0.0, 0.01, 0.02, 0.05, 0.1, 0.15, 0.2, 0.3)
"""Shares that are offered."""

ROWS: Final = (
    ("valid", "judges the run while it trains"),
    ("test", "judges it at the end"),
    ("seed", "decides which records are held out"),
)


class ShareList(LineList, keys="split"):
    """A line for each decision; left and right change it."""

    HELP = """How much of the file is held out. Records that are nearly the same stay together, and
    each file of a set gives its share. New files are written, yours stay as they are."""
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("left,h", "step(-1)", "Less", key_display="←→", tooltip="Less, or more", id="less"),
        Binding("right,l", "step(1)", "More", show=False, id="more"),
    ]

    class Changed(Message):
        """Another share or seed was chosen."""

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
        """The next or the last value of the decision under the cursor."""
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


class SplitDialog(Remappable, ModalScreen[tuple[Shares, int] | None], keys="split"):
    """Gives the shares and the seed; None where nothing is to be made."""

    CSS_PATH = "split.tcss"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter", "make", "Make", priority=True),
        Binding("escape,q", "leave", "Back", id="cancel"),
    ]

    def __init__(self, file: str, records: int, folder: str) -> None:
        super().__init__()
        self._file = file
        self._records = records
        self._folder = folder

    def compose(self) -> ComposeResult:
        with Vertical(id="split") as sheet:
            sheet.border_title = "hold records out"
            sheet.border_subtitle = "←→ change  enter makes it  esc back"
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
            f"of {printable_line(self._file)}: {counts}test {figures.count(test)}",
            f"into {printable_line(self._folder)}/, and the recipe's data becomes that",
        )
        self.query_one("#outcome", Static).update(Content.styled("\n".join(lines), MUTED))

    def action_make(self) -> None:
        """Close with what was chosen."""
        chosen = self.query_one(ShareList)
        self.dismiss((chosen.shares, chosen.seed))

    def action_leave(self) -> None:
        self.dismiss(None)
