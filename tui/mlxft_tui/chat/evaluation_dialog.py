"""The dialog that asks what to evaluate on: split, number of records, longest answer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar, Final, Literal

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.content import Content
from textual.widgets import Static

from mlxft.text import figures
from mlxft_tui.frame.sheet import Sheet
from mlxft_tui.text.theme import MUTED
from mlxft_tui.widgets.line_list import LineList

if TYPE_CHECKING:
    from mlxft.data.split_files import SplitName

LIMITS: Final = (10, 20, 50, 100, 200, 500, 1000, 2000, 5000)
"""Selectable numbers of records, before all of them."""

LENGTHS: Final = (32, 64, 128, 256, 512, 1024, 2048, 4096)
"""Selectable maximum lengths of an answer, in tokens."""

ROWS: Final = ("split", "records", "length")

MEANINGS: Final[dict[SplitName, str]] = {
    "test": "records it was neither trained nor chosen on",
    "valid": "records that validations used during training",
    "train": "records it was trained on, so no measure of new ones",
}


@dataclass(frozen=True)
class EvaluationPlan:
    """What an evaluation covers."""

    split: SplitName = "test"
    limit: int | None = None
    """Only the first records; None is all."""
    max_tokens: int = 256
    """The maximum length of an answer."""


class PlanList(LineList, keys="evaluation"):
    """A line per setting; left and right change it."""

    HELP = """The base and the adapter answer each record of the split, and their answers are
    compared with the expected ones. Answers take longer than losses: fewer records or shorter
    answers save time. A cancelled evaluation shows the scores of what was done."""
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("left,h", "step(-1)", "Change", key_display="←→", tooltip="Less", id="less"),
        Binding("right,l", "step(1)", "More", show=False, id="more"),
    ]

    def __init__(self, plan: EvaluationPlan, records: Mapping[SplitName, int | None]) -> None:
        """`records` are the splits that exist, and how many records they have if that is known."""
        super().__init__()
        self.plan = plan if plan.split in records else replace(plan, split=next(iter(records)))
        self._records = records

    def on_mount(self) -> None:
        self.count = len(ROWS)

    def line(self, index: int, width: int) -> Content:
        value, meaning = self._shown(index)
        name = (f"{ROWS[index]:<9}", "bold")
        return Content.assemble(
            name, "‹ ", (value, "bold $accent"), " ›", (f"  {meaning}", MUTED)
        ).truncate(width, ellipsis=True)

    def _shown(self, index: int) -> tuple[str, str]:
        plan, available = self.plan, self._records[self.plan.split]
        match ROWS[index]:
            case "split":
                return plan.split, MEANINGS[plan.split]
            case "records":
                of = f"of {figures.count(available)}" if available is not None else ""
                if plan.limit is None:
                    return "all", of
                return f"first {figures.count(plan.limit)}", of
            case _:
                return figures.count(plan.max_tokens), "tokens; longer answers are cut"

    def action_step(self, direction: Literal[-1, 1]) -> None:
        """Choose the next or previous value of the setting under the cursor."""
        plan = self.plan
        match ROWS[self.cursor]:
            case "split":
                names = list(self._records)
                at = (names.index(plan.split) + direction) % len(names)
                self.plan = replace(plan, split=names[at])
            case "records":
                available = self._records[plan.split]
                limits = [each for each in LIMITS if available is None or each < available]
                self.plan = replace(plan, limit=_stepped([*limits, None], plan.limit, direction))
            case _:
                length = _stepped(LENGTHS, plan.max_tokens, direction)
                self.plan = replace(plan, max_tokens=length or plan.max_tokens)
        self.refresh()


def _stepped(
    values: Sequence[int | None], present: int | None, direction: Literal[-1, 1]
) -> int | None:
    """The neighbour of a value; a value that isn't offered any more counts as the last one."""
    at = values.index(present) if present in values else len(values) - 1
    return values[min(max(at + direction, 0), len(values) - 1)]


class EvaluationDialog(Sheet[EvaluationPlan], keys="evaluation"):
    """Returns what to evaluate on."""

    CSS_PATH = "evaluation_dialog.tcss"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter", "accept", "Evaluate", priority=True, id="start"),
        Binding("escape,q", "cancel", "Cancel"),
    ]

    def __init__(
        self, plan: EvaluationPlan, records: Mapping[SplitName, int | None], compared: str
    ) -> None:
        super().__init__()
        self._plans = PlanList(plan, records)
        self._compared = compared

    def compose(self) -> ComposeResult:
        with Vertical(id="evaluation") as dialog:
            dialog.border_title = "evaluate"
            yield self._plans
            yield Static(Content.styled(self._compared, MUTED), id="compared")

    def shown(self) -> EvaluationPlan:
        return self._plans.plan
