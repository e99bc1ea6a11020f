"""The dialog that asks what to export of a run, and says how much will be written."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Final, Literal, TypeVar

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical
from textual.content import Content
from textual.widgets import Input, Static

from mlxft.errors import StorageError
from mlxft.export.offer import FORMS, Offer, weights_for
from mlxft.export.place import free_bytes, refuse_full, refuse_taken
from mlxft.export.refusal import refusal
from mlxft.export.size import expected_bytes
from mlxft.export.source import source_of
from mlxft.export.types import GGUF_TYPES, MODES, Choice, Form, Quantize, unchecked
from mlxft.text import figures
from mlxft.text.printable import printable_line
from mlxft_tui.frame.sheet import Sheet
from mlxft_tui.text.theme import MUTED
from mlxft_tui.widgets.line_list import LineList
from mlxft_tui.widgets.notices import show_error
from mlxft_tui.widgets.ordered_input import OrderedInput

ROWS: Final = ("format", "adapter", "weights")

GGUF_MEANINGS: Final = {
    "f32": "32 bits",
    "f16": "16 bits, the usual",
    "bf16": "16 bits, as most models are trained",
    "q8_0": "8 bits",
    "q5_1": "5 bits",
    "q5_0": "5 bits, coarser",
    "q4_1": "4 bits",
    "q4_0": "4 bits, coarser",
}

FOLDER: Final = "folder"

T = TypeVar("T")


@dataclass(frozen=True)
class Chosen:
    """The values of the three rows."""

    form: Form
    checkpoint: str | None
    weights: str


class ChoiceList(LineList, keys="export"):
    """A line per setting; left and right change it."""

    HELP = """An export is written beside its place, loaded again, and compared with the model and
    its adapter on records of the validation set. It runs in a process of its own and continues
    while you use other screens. Fewer bits make a smaller file that has lost more of the
    training; the comparison says how much."""
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("left,h", "step(-1)", "Change", key_display="←→", tooltip="Previous", id="less"),
        Binding("right,l", "step(1)", "Next", show=False, id="more"),
    ]

    def __init__(self, offer: Offer) -> None:
        super().__init__()
        self._offer = offer
        self.chosen = Chosen("mlx", None, "keep")

    def on_mount(self) -> None:
        self.count = len(ROWS)

    def line(self, index: int, width: int) -> Content:
        value, meaning = self._shown(ROWS[index])
        name = (f"{ROWS[index]:<9}", "bold")
        return Content.assemble(
            name, "‹ ", (value, "bold $accent"), " ›", (f"  {meaning}", MUTED)
        ).truncate(width, ellipsis=True)

    def _shown(self, row: str) -> tuple[str, str]:
        chosen, offer = self.chosen, self._offer
        match row:
            case "format":
                return chosen.form, FORMS[chosen.form]
            case "adapter":
                return checkpoint_text(offer, chosen.checkpoint)
            case _:
                return weights_text(offer, chosen.form, chosen.weights)

    def action_step(self, direction: Literal[-1, 1]) -> None:
        """Choose the next or previous value of the setting under the cursor."""
        chosen, offer = self.chosen, self._offer
        match ROWS[self.cursor]:
            case "format":
                form = _stepped(offer.forms, chosen.form, direction)
                self.chosen = Chosen(form, chosen.checkpoint, weights_for(form)[0])
            case "adapter":
                checkpoint = _stepped(offer.checkpoints, chosen.checkpoint, direction)
                self.chosen = Chosen(chosen.form, checkpoint, chosen.weights)
            case _:
                weights = _stepped(weights_for(chosen.form), chosen.weights, direction)
                self.chosen = Chosen(chosen.form, chosen.checkpoint, weights)
        self.refresh()
        assert isinstance(self.screen, ExportDialog)
        self.screen.show_outcome()


def _stepped(values: Sequence[T], present: T, direction: Literal[-1, 1]) -> T:
    return values[(values.index(present) + direction) % len(values)]


def checkpoint_text(offer: Offer, checkpoint: str | None) -> tuple[str, str]:
    """A saved adapter and what it is."""
    if checkpoint is None:
        step = f"of step {offer.last}" if offer.last is not None else "of the run"
        return "last", f"the last save, {step}"
    if checkpoint.isdecimal():
        return f"step {checkpoint}", "saved during the run"
    return "best", f"the lowest validation loss, at step {offer.best}"


def weights_text(offer: Offer, form: Form, weights: str) -> tuple[str, str]:
    """A kind of weights and what it is."""
    if form not in ("mlx", "gguf"):
        return "as trained", "an adapter is never quantized"
    if weights == "keep":
        own = f"{offer.bits} bits" if offer.bits else "not quantized"
        return "keep", f"as the model's own: {own}" if offer.family else "as the model's own"
    if weights == "none":
        return "none", "not quantized, so nothing is lost"
    if weights in GGUF_TYPES:
        return weights, GGUF_MEANINGS[weights]
    if weights in MODES:
        return weights, f"quantized again to {weights[-1]} bits"
    return f"{weights} bits", "quantized again"


class ExportDialog(Sheet[Choice], keys="export"):
    """Returns what to export and where to."""

    CSS_PATH = "dialog.tcss"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter", "accept", "Export", priority=True, id="start"),
        Binding("tab", "app.focus_next", "Folder", tooltip="Edit the folder", id="next"),
        Binding("escape", "cancel", "Cancel"),
    ]

    def __init__(self, offer: Offer, folder: Path) -> None:
        """`folder` is the project's, in which relative paths are."""
        super().__init__()
        self._offer = offer
        self._folder = folder
        self._choices = ChoiceList(offer)
        self._place = OrderedInput(self._usual("mlx"), id=FOLDER, compact=True)
        self._place.cursor_blink = False

    def compose(self) -> ComposeResult:
        with Vertical(id="export") as dialog:
            dialog.border_title = printable_line(f"export {self._offer.adapter.name}")
            yield self._choices
            with Horizontal():
                yield Static(FOLDER, classes="name")
                yield self._place
            yield Static(id="outcome")

    def on_mount(self) -> None:
        self.show_outcome()

    def _usual(self, form: Form) -> str:
        return printable_line(f"{self._offer.adapter.name}-{form}")

    def show_outcome(self) -> None:
        """Say what will be written and whether it fits."""
        form, forms = self._choices.chosen.form, self._offer.forms
        if self._place.value in [self._usual(each) for each in forms]:
            self._place.value = self._usual(form)
        self._write_outcome()

    @on(Input.Changed)
    def _write_outcome(self) -> None:
        choice, problem = self._read()
        parts = [Content.styled(printable_line(self._writes(choice)), MUTED)]
        if problem:
            parts.append(Content.styled(printable_line(problem), "$error"))
        elif self._offer.busy:
            busy = "A run is training on this machine; the export shares its memory and speed."
            parts.append(Content.styled(busy, "$warning"))
        elif warning := self._offer.other_weights or unchecked(choice.form, self._offer.family):
            parts.append(Content.styled(printable_line(warning), "$warning"))
        else:
            compared = "It is loaded again and compared with the adapter on validation records."
            parts.append(Content.styled(compared, MUTED))
        self.query_one("#outcome", Static).update(Content("\n").join(parts))

    def _writes(self, choice: Choice) -> str:
        needed, place = self._needed(choice), self._absolute(choice)
        much = f"about {figures.size(needed)}" if needed is not None else "the files"
        free = f"{figures.size(free_bytes(place))} free"
        return f"writes {much} to {figures.short_path(place)}/; {free}"

    def _needed(self, choice: Choice) -> int | None:
        source = source_of(self._offer.adapter, choice.checkpoint)
        return expected_bytes(self._offer.model, source.weights, choice.form, choice.quantize)

    def _absolute(self, choice: Choice) -> Path:
        return self._folder / choice.out.expanduser()

    def _read(self) -> tuple[Choice, str]:
        """What is shown, and why it can't be exported."""
        chosen = self._choices.chosen
        kept = chosen.form not in ("mlx", "gguf")
        choice = Choice(
            form=chosen.form,
            out=Path(self._place.value.strip() or self._usual(chosen.form)),
            checkpoint=chosen.checkpoint,
            quantize=Quantize("keep" if kept else chosen.weights),
        )
        place = self._absolute(choice)
        try:
            refuse_taken(place)
            refuse_full(place, self._needed(choice), free_bytes(place))
        except (StorageError, OSError) as error:
            return choice, str(error).replace("another --out", "another folder")
        return choice, refusal(chosen.form, self._offer.subject).replace("with --to ", "as ")

    @on(Input.Submitted)
    def _submitted(self) -> None:
        self.action_accept()

    def shown(self) -> Choice | None:
        choice, problem = self._read()
        if problem:
            show_error(self, problem)
        return None if problem else choice
