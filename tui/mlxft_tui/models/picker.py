"""The dialog to choose a model: a filter, the models, and what is known of the selected one."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import ClassVar, Final, Literal, Protocol

from textual import on, work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical
from textual.content import Content
from textual.widgets import Input, Static

from mlxft.errors import MlxftError
from mlxft.hub.listed import ListedModel, Machine, with_text
from mlxft.hub.local_models import local_models
from mlxft.hub.verdicts import context, parameters
from mlxft.text import figures
from mlxft.text.printable import printable_line
from mlxft_tui.frame.sheet import Sheet
from mlxft_tui.models.model_list import ModelList, verdict
from mlxft_tui.text.theme import MUTED
from mlxft_tui.widgets.line_list import LineList
from mlxft_tui.widgets.notices import inform, show_error, warn
from mlxft_tui.widgets.ordered_input import OrderedInput
from mlxft_tui.widgets.remappable import with_keys

ORDERS: Final = ("best", "name", "size", "memory", "downloads", "updated")
OF_THE_HUB: Final = ("downloads", "updated")
"""Orders of what only the hub knows."""

_PLACES: Final = {
    "demo": "imported",
    "cache": "in the hub's cache",
    "hub": "on the hub",
    "gguf": "imported when it is opened",
}

BATCH_SECONDS: Final = 0.1
"""How long models are read before those found are shown."""


class Downloads(Protocol):
    """The one download at a time, which the application follows."""

    @property
    def running(self) -> str:
        """The name of the model that is being downloaded, or empty."""

    @property
    def words(self) -> str:
        """How far it is, or how the latest one ended; or empty."""

    def start(self, name: str) -> None:
        """Download a model."""

    def cancel(self) -> None:
        """Cancel the download; what has arrived is kept."""

    def watch(self, dialog: ModelPicker | None) -> None:
        """Show each change in this dialog."""


class ModelPicker(Sheet[str], keys="picker"):
    """Returns the name of the chosen model."""

    CSS_PATH = "picker.tcss"
    CLICK_ACCEPTS = True
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter", "accept", "Choose", priority=True, tooltip="Use it, or download it first"),
        Binding("ctrl+s", "search", "Search hub", priority=True, tooltip="Search the hub for this"),
        Binding("ctrl+o", "order", "Sort", priority=True, tooltip="Sort by another column"),
        Binding("ctrl+t", "stop", "Stop", priority=True, tooltip="Cancel the download"),
        Binding("escape", "back", "Back", tooltip="Back to the models here, or close"),
        Binding("up", "move(-1)", "Up", show=False, priority=True, id="up"),
        Binding("down", "move(1)", "Down", show=False, priority=True, id="down"),
        Binding("pageup", "page(-1)", "Page up", show=False, priority=True, id="page_up"),
        Binding("pagedown", "page(1)", "Page down", show=False, priority=True, id="page_down"),
    ]

    def __init__(
        self, project: Path, machine: Machine, downloads: Downloads, present: str = ""
    ) -> None:
        """`present` is the recipe's model."""
        super().__init__()
        self._project, self._machine, self._downloads = project, machine, downloads
        self._present = present
        self._here: list[ListedModel] = []
        self._found: list[ListedModel] | None = None
        """What the hub has found, while that is shown."""
        self._order = ORDERS[0]
        self._status = ""
        self._list = ModelList()
        self._filter = OrderedInput(compact=True, placeholder="type to filter")
        self._filter.cursor_blink = False

    def compose(self) -> ComposeResult:
        with Vertical(id="picker") as dialog:
            dialog.border_title = "models"
            with Horizontal():
                yield Static("filter", classes="name")
                yield self._filter
            yield self._list
            yield Static(id="about")

    def on_mount(self) -> None:
        self._filter.focus()
        self._downloads.watch(self)
        self._read()

    def on_unmount(self) -> None:
        self._downloads.watch(None)

    # What is shown

    @work(exclusive=True, group="models")
    async def _read(self) -> None:
        """Read the models here, and show them as they are found."""
        self._status, self._here = "reading the models here …", []
        models = local_models(self._project, self._machine)
        while batch := await asyncio.to_thread(_next_batch, models):
            self._here += batch
            self._show(self._kept())
        none = "There are no models here yet; type a name, and {picker.search} searches the hub."
        self._status = "" if self._here else with_keys(self, none)
        self._show(self._kept())

    def _kept(self) -> str:
        """The name to keep the cursor on: the recipe's model until the cursor is moved."""
        return self._selected_name() if self._list.cursor else self._present

    def download_changed(self, *, ended: bool) -> None:
        """Show how far the download is; after its end read again what is here."""
        if ended:
            self._read()
        self._describe()
        self.refresh_bindings()

    def _models(self) -> list[ListedModel]:
        """The models of the filter, in order."""
        models: Sequence[ListedModel] = self._here if self._found is None else self._found
        if self._found is not None:
            here = {each.name: each for each in self._here if each.folder}
            models = [here.get(each.name, each) for each in models]
        return _sorted(with_text(models, self._filter.value), self._order)

    def _show(self, keep: str = "") -> None:
        models = self._models()
        self._list.show(models, keep=keep)
        count = figures.count(len(models))
        place = "here" if self._found is None else "on the hub"
        order = "" if self._order == ORDERS[0] else f" by {self._order}"
        self.query_one("#picker").border_title = f"models {place}: {count}{order}"
        self._describe()

    def _selected_name(self) -> str:
        selected = self._list.selected
        return selected.name if selected else ""

    @on(LineList.Moved)
    def _describe(self) -> None:
        """Write all that is known of the selected model, and of the download."""
        selected = self._list.selected
        lines = _about(selected, self._machine) if selected else []
        if not selected and not self._status:
            lines = [Content.styled(self._nothing(), MUTED)]
        status = self._downloads.words or self._status
        self.query_one("#about", Static).update(
            Content("\n").join([*lines, Content.styled(printable_line(status), "$accent")])
        )

    def _nothing(self) -> str:
        if self._filter.value and self._found is None:
            return with_keys(self, "No model here has this; {picker.search} searches the hub.")
        return "The hub has found nothing of this."

    # Keys

    @on(Input.Changed)
    def _filtered(self) -> None:
        self._show(self._selected_name())

    def action_move(self, by: int) -> None:
        self._list.action_move(by)

    def action_page(self, direction: Literal[-1, 1]) -> None:
        self._list.action_move_page(direction)

    def action_order(self) -> None:
        """Sort by the next column; by what the hub knows only where it has found something."""
        orders = [each for each in ORDERS if self._found is not None or each not in OF_THE_HUB]
        at = orders.index(self._order) if self._order in orders else -1
        self._order = orders[(at + 1) % len(orders)]
        self._show(self._selected_name())

    def action_search(self) -> None:
        """Search the hub for what is typed."""
        text = self._filter.value.strip()
        if text:
            self._status = f"searching the hub for {text} …"
            self._describe()
            self._search(text)
        else:
            inform(self, "Type what to search for.")

    @work(exclusive=True, group="search")
    async def _search(self, text: str) -> None:
        from mlxft.hub.search import search

        try:
            self._found = await asyncio.to_thread(search, text, self._machine)
            self._status = ""
        except MlxftError as error:
            self._status = str(error)
        self._show()

    def action_stop(self) -> None:
        """Cancel the download."""
        self._downloads.cancel()

    def action_back(self) -> None:
        """Show the models here again, or close."""
        if self._found is None:
            self.action_cancel()
        else:
            self._found, self._status = None, ""
            self._show(self._present)

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        if action == "stop" and not self._downloads.running:
            return False
        return super().check_action(action, parameters)

    def shown(self) -> str | None:
        selected = self._list.selected
        if selected is None:
            return None
        if selected.folder and not selected.hindrance:
            return selected.name
        if _may_be_downloaded(selected):
            self._download(selected)
            return None
        problem = f"{selected.name}: {selected.hindrance}."
        show_error(self, problem)
        return None

    def _download(self, model: ListedModel) -> None:
        if running := self._downloads.running:
            text = with_keys(self, f"{running} is being downloaded; {{picker.stop}} cancels that.")
            warn(self, text)
            return
        self._downloads.start(model.name)
        self._describe()
        self.refresh_bindings()


def _may_be_downloaded(model: ListedModel) -> bool:
    """Whether a download helps: not with a family that can't be trained, or a gate."""
    return (
        model.incomplete if model.place == "cache" else model.place == "hub" and not model.hindrance
    )


def _next_batch(models: Iterator[ListedModel]) -> list[ListedModel]:
    """The models that are found within a moment; empty at the end."""
    end, found = time.monotonic() + BATCH_SECONDS, list[ListedModel]()
    for each in models:
        found.append(each)
        if time.monotonic() > end:
            break
    return found


def _sorted(models: Sequence[ListedModel], order: str) -> list[ListedModel]:
    from mlxft.hub.listed import in_order

    if order == "downloads":
        return sorted(models, key=lambda each: -(each.downloads or 0))
    if order == "updated":
        return sorted(models, key=lambda each: each.updated, reverse=True)
    return in_order(models, order)  # type: ignore[arg-type]


def _about(model: ListedModel, machine: Machine) -> list[Content]:
    """A model's full name with its figures, and what it needs or lacks."""
    facts = [
        figures.size(model.size) if model.size is not None else "",
        f"{parameters(model.parameters)} parameters" if model.parameters else "",
        printable_line(model.quantization),
        f"context {context(model.context)}" if model.context else "",
        f"{figures.count(model.downloads)} downloads" if model.downloads is not None else "",
    ]
    place = _PLACES.get(model.place) or figures.short_path(Path(model.folder or model.name))
    first = Content.assemble(
        (printable_line(model.name), "bold"),
        (f"  {', '.join(each for each in facts if each)}", MUTED),
    )
    if model.hindrance:
        return [first, Content.styled(f"{printable_line(model.hindrance)}", "$error")]
    limit = f" of {figures.gigabytes(machine.limit)} GB" if machine.limit else ""
    needs = verdict(model) if model.memory is not None else Content("its memory isn't known")
    return [
        first,
        Content.assemble(Content(str(needs).strip()), f"{limit} · {printable_line(place)}"),
    ]
