"""The data screen: the records as you, the template and the model see them."""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections import deque
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Final, Literal

from textual import on, work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Container
from textual.content import Content
from textual.reactive import var
from textual.widgets import Static

from mlxft import recipe as recipes
from mlxft.data.folder_view import SplitView
from mlxft.data.search import Query
from mlxft.engine.protocol import OpenModel, Preview, Previewed
from mlxft.errors import MlxftError
from mlxft.text import figures
from mlxft.text.printable import printable, printable_line
from mlxft_tui.data import record_view
from mlxft_tui.data.columns import ColumnsDialog
from mlxft_tui.data.findings import Findings
from mlxft_tui.data.problem_list import ProblemList, problems_title
from mlxft_tui.data.record_list import RecordList
from mlxft_tui.data.record_view import VIEWS, View
from mlxft_tui.data.split_tabs import SplitTabs
from mlxft_tui.data.splitting import made, new_folder
from mlxft_tui.data.statistics_panel import StatisticsPanel, unit_of
from mlxft_tui.frame.messages import RecipeChanged
from mlxft_tui.frame.screen import AppScreen
from mlxft_tui.widgets.ask_line import AskLine
from mlxft_tui.widgets.opening import opening_note
from mlxft_tui.widgets.text_pane import TextPane

if TYPE_CHECKING:
    from mlxft.data.dataset import SplitName
    from mlxft.data.splitting import Made, Shares
    from mlxft.data.token_view import TokenView
    from mlxft.data.validation import Fault, Line
    from mlxft_tui.session import Session

SEARCH: Final = "/"
OPEN: Final = "data"
"""What the line at the foot asks for."""

MOST_SOUGHT: Final = 16
"""Characters of a search that its note repeats."""

SETTLE_SECONDS = 0.08
"""How long the cursor must stand on a record before the model service is asked for it."""


class DataScreen(AppScreen, keys="data"):
    """Look at the records of train, valid and test."""

    HELP = """The recipe's data folder. Each record can be seen as it is written, as the model's
    chat template makes it, and as tokens: the trained ones marked, the ones beyond max_seq_length
    struck out. An answer that the template leaves without an end token gets one, which mlx-lm
    doesn't do: a model that never sees its end never stops."""
    CSS_PATH = "screen.tcss"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding(
            "left,h",
            "split(-1)",
            "Split",
            key_display="←→",
            tooltip="The file before",
            id="previous_split",
        ),
        Binding("right,l", "split(1)", "Next split", show=False, id="next_split"),
        Binding("m", "view", "View", tooltip="As text, templated, or as tokens"),
        Binding(
            "i", "ids", "Ids", tooltip="Each token with its number, or without", id="token_ids"
        ),
        Binding("slash", "search", "Search", key_display="/", tooltip="Find records by their text"),
        Binding(
            "n",
            "find(1)",
            "Next found",
            show=False,
            tooltip="The next found record",
            id="next_match",
        ),
        Binding(
            "N",
            "find(-1)",
            "Last found",
            show=False,
            tooltip="The found record before",
            id="previous_match",
        ),
        Binding("escape", "end_search", "End search", show=False),
        Binding("e", "problems", "Problems", tooltip="Go to the list of problems"),
        Binding("s", "statistics", "Statistics", tooltip="The file in figures, or the record"),
        Binding("c", "columns", "Columns", tooltip="Choose which field of the records is which"),
        Binding(
            "x",
            "hold_out",
            "Hold out",
            tooltip="Make train, valid and test of this file",
            id="split",
        ),
        Binding("o", "open", "Open", tooltip="Look at other data"),
    ]

    split_name: var[SplitName] = var("train")
    shown_as: var[View] = var("text")
    show_ids: var[bool] = var(False)

    def __init__(self, session: Session) -> None:
        super().__init__(session)
        self._shown: tuple[Any, ...] = ()
        self._nothing = ""
        self._findings: Findings | None = None
        self._wanted: deque[Literal[-1, 1]] = deque()
        """The ways to go, one after the other, as soon as the search knows."""

    def compose_body(self) -> ComposeResult:
        yield SplitTabs()
        with Container(id="panes"):
            with Container(id="records"):
                yield RecordList()
            yield TextPane("record")
            with Container(id="lengths"):
                yield StatisticsPanel()
            with Container(id="problems"):
                yield ProblemList()
        yield Static(id="nothing")
        yield AskLine()

    def on_mount(self) -> None:
        self.query_one("#records").border_title = "records"
        self.query_one("#lengths").border_title = unit_of(None)
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
        self._show_nothing(split.problem if split and not split.lines else "")
        self.query_one(RecordList).split = split
        self.query_one(StatisticsPanel).split = split
        self.query_one(ProblemList).split = split
        if self._findings is not None and self._path != self._findings.path:
            self.action_end_search()
        self._show_tokens()
        self.refresh_bindings()
        self._show_record()

    def _show_nothing(self, reason: str) -> None:
        """Why there are no records, in their place; another text costs a layout."""
        if reason != self._nothing:
            self._nothing = reason
            self.set_class(bool(reason), "-nothing")
            self.query_one("#nothing", Static).update(Content(printable(reason)))

    @property
    def _path(self) -> Path | None:
        return self.split.path if self.split else None

    def watch_tokens(self) -> None:
        self._show_tokens()

    def _show_tokens(self) -> None:
        panel, tokens = self.query_one(StatisticsPanel), self.tokens.get(self.split_name)
        panel.tokens = tokens
        panel.recipe = self.recipe
        self.query_one(ProblemList).also = (*self._few(), *(tokens.doubts if tokens else ()))
        self.query_one("#problems").border_title = problems_title(self.split, tokens)
        self.query_one("#lengths").border_title = unit_of(panel.tokens)

    def _few(self) -> Iterator[Fault]:
        """Whether the file is too small for its use."""
        from mlxft.data.data_warnings import too_few

        split = self.split
        if split and split.statistics:
            count, batch_size = split.statistics.records, self.recipe.batch_size
            yield from too_few(split.path, split.name, count, batch_size)

    def watch_show_ids(self) -> None:
        self._show_record()

    def watch_shown_as(self) -> None:
        self.query_one(TextPane).border_title = views_title(self.shown_as)
        self.refresh_bindings()
        self._show_record()

    def watch_model(self) -> None:
        self._show_record()

    def watch_model_progress(self) -> None:
        self._show_record()

    def watch_recipe(self) -> None:
        self.query_one(RecordList).columns = self.recipe.columns
        self._show_tokens()
        self._show_record()

    @on(RecordList.Moved)
    def _moved(self) -> None:
        self._show_record()

    def _show_record(self) -> None:
        """The record under the cursor, unless it is what is shown already."""
        records = self.query_one(RecordList)
        line = records.record(records.cursor) if records.count else None
        raw = records.raw(records.cursor) if records.count else None
        recipe, sought = self.recipe, self._sought
        settings = recipes.token_settings(recipe, "tokens", "truncation")
        look = (self.shown_as, self.show_ids, sought)
        wanted = (raw, *look, settings, self.model, self.model_progress)
        if wanted == self._shown:
            return
        self._shown = wanted
        self.query_one("#record").border_subtitle = Content(self._origin(line) if line else "")
        self.workers.cancel_group(self, "preview")
        if not raw:
            self._show(Content(""))
        elif line is None:
            self._show(record_view.raw_content(raw))
        elif self.shown_as == "text" or line.fields is None or line.faults:
            self._show(record_view.text_content(line, raw, sought))
        elif self.model is None:
            self._show(opening_note("This view", self.model_progress))
        else:
            self._preview(line.fields)

    def _origin(self, line: Line) -> str:
        """The format of a record, and its file where the set is of several."""
        from mlxft.data.containers import place

        whole = self._path or Path()
        file, number = place(whole, line.number)
        where = f"{file.name} {number}" if file != whole else ""
        return printable_line("  ".join(filter(None, (line.format, where))))

    @work(exclusive=True, group="preview")
    async def _preview(self, fields: Mapping[str, Any]) -> None:
        """The record through the model's own template and tokenizer."""
        await asyncio.sleep(SETTLE_SECONDS)
        recipe = self.recipe
        try:
            client = await self.session.service()
            if client.model is None:
                # A service started anew knows no model yet.
                await client.send(OpenModel(recipe.model, recipe.trust_remote_code))
            async for reply in client.stream(Preview(dict(fields), recipe)):
                if isinstance(reply, Previewed):
                    self._show(self._viewed(reply.view))
        except MlxftError as error:
            self._show(Content.styled(printable(str(error)), "$error"))

    def _viewed(self, view: TokenView) -> Content:
        if self.shown_as == "tokens":
            return record_view.tokens_content(view, self.show_ids)
        return record_view.templated_content(view)

    def _show(self, content: Content) -> None:
        if self.app.is_running:
            pane = self.query_one(TextPane)
            pane.scroll_home(animate=False, immediate=True)
            pane.show(content)

    # Searching

    def action_search(self) -> None:
        """Ask what to look for."""
        if self._path and self.query_one(RecordList).count:
            before = self._findings.query.text if self._findings else ""
            self.query_one(AskLine).ask(SEARCH, before, allow_regex=True)

    def _begin_search(self, query: Query) -> None:
        self.action_end_search()
        try:
            query.pattern()
        except MlxftError as error:
            self.notify(printable_line(str(error)), severity="error", markup=False)
            return
        path, places = self._path, self.split.places if self.split else None
        if query.text and path and places:
            self.remove_class("-statistics")  # What is found is to be seen.
            origin = self.query_one(RecordList).offset_under_cursor
            self._findings = Findings(path, query, origin, places.index.size)
            self._wanted.append(1)
            self._search(self._findings)

    @work(exclusive=True, group="search")
    async def _search(self, findings: Findings) -> None:
        """Take what the search's own process finds."""
        try:
            async with contextlib.aclosing(findings.search()) as steps:
                async for _ in steps:
                    self._show_findings()
                    self._go_where_wanted()
        except MlxftError as error:
            self.notify(printable_line(str(error)), severity="error", markup=False)
        self._show_findings()

    def action_find(self, direction: Literal[-1, 1]) -> None:
        """Go to the next or the last found record, as soon as it is known."""
        if self._findings is None:
            return
        self._wanted.append(direction)
        self.remove_class("-statistics")
        self._go_where_wanted()

    def _go_where_wanted(self) -> None:
        """As far as is known; where nothing was found there is nowhere to go."""
        records, findings = self.query_one(RecordList), self._findings
        while findings is not None and self._wanted:
            found = findings.neighbour(records.offset_under_cursor, self._wanted[0])
            if found is None:
                break
            self._wanted.popleft()
            records.go_to(found)
            self._show_findings()
        if findings is not None and findings.complete:
            self._wanted.clear()

    def action_end_search(self) -> None:
        """Leave off searching, and forget what was found."""
        self.workers.cancel_group(self, "search")
        self._findings = None
        self._wanted.clear()
        self._show_findings()
        self._show_record()

    def _show_findings(self) -> None:
        if self.app.is_running:
            records = self.query_one(RecordList)
            at = records.offset_under_cursor if self._findings else 0
            note = findings_note(self._findings, at) if self._findings else ""
            self.query_one("#records").border_subtitle = Content(note)

    @property
    def _sought(self) -> re.Pattern[str] | None:
        """What stands out in a record's text; an expression could take for ever to find there."""
        found = self._findings
        return found.query.pattern() if found and not found.query.is_expression else None

    @on(AskLine.Answered)
    def _answered(self, message: AskLine.Answered) -> None:
        self.query_one(RecordList).focus()
        if message.purpose == SEARCH:
            self._begin_search(Query(message.text, message.is_regex))
        elif message.text.strip() and message.text != self.recipe.data:
            self._open(message.text.strip())

    @on(AskLine.Cancelled)
    def _not_answered(self) -> None:
        self.query_one(RecordList).focus()

    # Other data, other fields

    def action_open(self) -> None:
        """Ask which data to look at."""
        self.query_one(AskLine).ask(OPEN, self.recipe.data)

    def _open(self, text: str) -> None:
        try:
            recipe = recipes.replace(self.recipe, "data", text)
        except MlxftError as error:
            self.notify(printable_line(str(error)), severity="error", markup=False)
        else:
            self.post_message(RecipeChanged(recipe))

    def action_columns(self) -> None:
        """Choose which field of the records is which."""
        records = self.query_one(RecordList).first_records()
        self.app.push_screen(ColumnsDialog(records, self.recipe), self._columns_chosen)

    def _columns_chosen(self, kept: bool | None) -> None:
        if kept:
            try:
                self.session.save_columns(self.recipe)
            except MlxftError as error:
                self.notify(printable_line(str(error)), severity="error", markup=False)

    # Holding records out

    def action_hold_out(self) -> None:
        """Ask how much of the file is to be held out."""
        from mlxft_tui.data.split import SplitDialog

        split = self.split
        if split is None or split.statistics is None or not split.statistics.records:
            self.notify("There are no checked records to hold out yet.", severity="warning")
            return
        path, folder = split.path, new_folder(self.session.folder, self.recipe.data)
        sheet = SplitDialog(path.name, split.statistics.records, folder)

        def chosen(answer: tuple[Shares, int] | None) -> None:
            if answer is not None:
                self._hold_out(path, folder, *answer)

        self.app.push_screen(sheet, chosen)

    @work(exclusive=True, group="hold out")
    async def _hold_out(self, path: Path, folder: str, shares: Shares, seed: int) -> None:
        """Have the files made, and go on with them."""
        from mlxft.data.containers import parts_of
        from mlxft.data.splitting import Order

        recipe, figures_pane = self.recipe, self.query_one("#lengths")
        figures_pane.border_subtitle = Content(f"making {printable_line(folder)}/ …")
        target = str(self.session.folder / folder)
        try:
            files = tuple(str(each) for each in parts_of(path))
            order = Order(files, target, shares.valid, shares.test, seed, dict(recipe.columns))
            done = await made(order)
            changed = recipes.replace(self.recipe, "data", folder)
        except MlxftError as error:
            self.notify(printable_line(str(error)), severity="error", markup=False)
        else:
            self.notify(held_out(folder, done), timeout=8, markup=False)
            self.post_message(RecipeChanged(changed))
        finally:
            figures_pane.border_subtitle = ""

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

    def action_ids(self) -> None:
        self.show_ids = not self.show_ids

    def action_statistics(self) -> None:
        """Give the figures the record's room, or give it back."""
        self.toggle_class("-statistics")

    def action_problems(self) -> None:
        problems = self.query_one(ProblemList)
        if problems.count:
            problems.focus()

    @on(ProblemList.Chosen)
    def _go_to_problem(self, message: ProblemList.Chosen) -> None:
        problems = self.query_one(ProblemList)
        # The list may have become another one since the key was pressed.
        line = problems.next_line(message.index) if message.index < problems.count else None
        if line is not None:
            self.remove_class("-statistics")
            records = self.query_one(RecordList)
            records.cursor = line - 1
            records.focus()

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        if action == "problems" and self.is_mounted:
            return True if self.query_one(ProblemList).count else None
        if action == "ids":
            return True if self.shown_as == "tokens" else None
        if action in ("find", "end_search"):
            return self._findings is not None
        return True


def held_out(folder: str, done: Made) -> str:
    """What was made, in a sentence."""
    counts = ", ".join(f"{name} {figures.count(n)}" for name, n in done.records.items())
    faulty = f"; {figures.count(done.faulty)} faulty left out" if done.faulty else ""
    return printable_line(f"Made {folder}/: {counts}{faulty}.")


def views_title(shown_as: View) -> Content:
    """The three views, the present one in brackets."""
    return Content(" ".join(f"[{view}]" if view == shown_as else view for view in VIEWS))


def findings_note(findings: Findings, offset: int) -> str:
    """How many records were found, and which of them is the present one."""
    sought = printable_line(findings.query.text)
    sought = sought if len(sought) <= MOST_SOUGHT else f"{sought[: MOST_SOUGHT - 1]}…"
    count = figures.count(len(findings))
    rank = findings.rank(offset)
    if not findings.complete:
        return f"/{sought} {count} found, {findings.share:.0%} searched"
    return f"/{sought} {figures.count(rank)} of {count}" if rank else f"/{sought} {count} found"
