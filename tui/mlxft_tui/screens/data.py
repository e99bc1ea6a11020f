"""The data screen: the records as you, the template and the model see them."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from textual import on, work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Container
from textual.content import Content
from textual.reactive import var
from textual.widgets import Static

from mlxft.data.printable import printable
from mlxft.engine.protocol import OpenModel, Preview, Previewed
from mlxft.errors import MlxftError
from mlxft_tui.records import SplitView
from mlxft_tui.screens.place import Place
from mlxft_tui.widgets import record_view
from mlxft_tui.widgets.length_histogram import LengthHistogram
from mlxft_tui.widgets.opening import opening_note
from mlxft_tui.widgets.problem_list import ProblemList, problems_title
from mlxft_tui.widgets.record_list import RecordList
from mlxft_tui.widgets.record_view import VIEWS, View
from mlxft_tui.widgets.split_tabs import SplitTabs
from mlxft_tui.widgets.text_pane import TextPane

if TYPE_CHECKING:
    from mlxft.data.dataset import SplitName
    from mlxft.engine.client import EngineClient
    from mlxft_tui.session import Session

SETTLE_SECONDS = 0.08
"""How long the cursor must stand on a record before the model service is asked for it."""


class DataScreen(Place):
    """Look at the records of train, valid and test."""

    HELP = """The recipe's data folder. Each record can be seen as it is written, as the model's
    chat template makes it, and as tokens: the trained ones marked, the ones beyond max_seq_length
    struck out."""
    CSS_PATH = "data.tcss"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("left,h", "split(-1)", "Split", key_display="←→", tooltip="The file before"),
        Binding("right,l", "split(1)", "Next split", show=False),
        Binding("m", "view", "View", tooltip="As text, templated, or as tokens"),
        Binding("e", "problems", "Problems", tooltip="Go to the list of problems"),
    ]

    split_name: var[SplitName] = var("train")
    shown_as: var[View] = var("text")

    def __init__(self, session: Session) -> None:
        super().__init__(session)
        self._shown: tuple[Any, ...] = ()
        self._client: EngineClient | None = None

    def compose_body(self) -> ComposeResult:
        yield SplitTabs()
        with Container(id="panes"):
            with Container(id="records"):
                yield RecordList()
            yield TextPane("record")
            with Container(id="lengths"):
                yield LengthHistogram()
            with Container(id="problems"):
                yield ProblemList()
        yield Static(id="nothing")

    def on_mount(self) -> None:
        self.query_one("#records").border_title = "records"
        self.query_one("#lengths").border_title = "lengths in characters"
        self.query_one("#problems").border_title = "problems"

    # What is shown

    @property
    def split(self) -> SplitView | None:
        """The file on screen."""
        return self.data.split(self.split_name) if self.data else None

    def watch_data(self) -> None:
        self.query_one(SplitTabs).data = self.data
        self._show_split()

    def watch_split_name(self) -> None:
        self.query_one(SplitTabs).present = self.split_name
        self._show_split()

    def _show_split(self) -> None:
        split = self.split
        nothing = split.problem if split and not split.lines else ""
        self.set_class(bool(nothing), "-nothing")
        self.query_one("#nothing", Static).update(Content(printable(nothing)))
        self.query_one(RecordList).split = split
        self.query_one(LengthHistogram).split = split
        self.query_one(ProblemList).split = split
        self.query_one("#problems").border_title = problems_title(split)
        self.refresh_bindings()
        self._show_record()

    def watch_shown_as(self) -> None:
        self.query_one(TextPane).border_title = views_title(self.shown_as)
        self._show_record()

    def watch_model(self) -> None:
        self._show_record()

    def watch_model_progress(self) -> None:
        self._show_record()

    def watch_recipe(self) -> None:
        self._show_record()

    @on(RecordList.Moved)
    def _moved(self) -> None:
        self._show_record()

    def _show_record(self) -> None:
        """The record under the cursor, unless it is what is shown already."""
        records = self.query_one(RecordList)
        line = records.record(records.cursor) if records.count else None
        wanted = (
            line,
            self.shown_as,
            self.recipe.mask_prompt,
            self.recipe.max_seq_length,
            self.model,
            self.model_progress,
        )
        if wanted == self._shown:
            return
        self._shown = wanted
        self.workers.cancel_group(self, "preview")
        if line is None:
            self._show(Content(""))
        elif self.shown_as == "text" or line.fields is None or line.faults:
            self._show(record_view.text_content(line, records.raw(records.cursor)))
        elif self.model is None:
            self._show(opening_note("This view", self.model_progress))
        else:
            self._preview(line.fields)

    @work(exclusive=True, group="preview")
    async def _preview(self, fields: Mapping[str, Any]) -> None:
        """The record through the model's own template and tokenizer."""
        await asyncio.sleep(SETTLE_SECONDS)
        recipe = self.recipe
        command = Preview(dict(fields), recipe.mask_prompt, recipe.max_seq_length)
        try:
            client = await self.session.service()
            if self._client is not None and client is not self._client:
                # A service started anew knows no model yet.
                await client.send(OpenModel(recipe.model, recipe.trust_remote_code))
            self._client = client
            async for reply in client.stream(command):
                if isinstance(reply, Previewed):
                    make = (
                        record_view.tokens_content
                        if self.shown_as == "tokens"
                        else record_view.templated_content
                    )
                    self._show(make(reply.view))
        except MlxftError as error:
            self._show(Content.styled(printable(str(error)), "$error"))

    def _show(self, content: Content) -> None:
        if self.app.is_running:
            pane = self.query_one(TextPane)
            pane.scroll_home(animate=False, immediate=True)
            pane.show(content)

    # Keys

    def action_split(self, direction: Literal[-1, 1]) -> None:
        names = [split.name for split in self.data.splits] if self.data else []
        if names:
            at = names.index(self.split_name) + direction
            self.split_name = names[at % len(names)]

    @on(SplitTabs.Chosen)
    def _tab_chosen(self, message: SplitTabs.Chosen) -> None:
        if self.data:
            chosen = [each.name for each in self.data.splits if each.name == message.name]
            self.split_name = chosen[0]

    def action_view(self) -> None:
        self.shown_as = VIEWS[(VIEWS.index(self.shown_as) + 1) % len(VIEWS)]

    def action_problems(self) -> None:
        problems = self.query_one(ProblemList)
        if problems.count:
            problems.focus()

    @on(ProblemList.Chosen)
    def _go_to_problem(self, message: ProblemList.Chosen) -> None:
        problems = self.query_one(ProblemList)
        # The list may have become another one since the key was pressed.
        line = problems.remark(message.index).line if message.index < problems.count else None
        if line is not None:
            records = self.query_one(RecordList)
            records.cursor = line - 1
            records.focus()

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        if action == "problems" and self.is_mounted:
            return True if self.query_one(ProblemList).count else None
        return True


def views_title(shown_as: View) -> Content:
    """The three views, the present one in brackets."""
    return Content(" ".join(f"[{view}]" if view == shown_as else view for view in VIEWS))
