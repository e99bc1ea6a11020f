"""The Data screen: the records as written, as templated, and as tokens."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, ClassVar, Final, Literal

from textual import on, work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Container
from textual.content import Content
from textual.reactive import var
from textual.widgets import Static

from mlxft.data.folder_view import SplitView, is_progress
from mlxft.data.search import Query
from mlxft.errors import MlxftError
from mlxft.text import figures
from mlxft.text.printable import printable, printable_line
from mlxft_tui.data.columns import ColumnsDialog
from mlxft_tui.data.findings import Findings
from mlxft_tui.data.problem_list import ProblemList, problems_title
from mlxft_tui.data.record_list import RecordList
from mlxft_tui.data.record_pane import RecordPane, ShownRecord
from mlxft_tui.data.record_search import RecordSearch
from mlxft_tui.data.record_view import VIEWS, View
from mlxft_tui.data.split_tabs import SplitTabs
from mlxft_tui.data.splitting import new_folder, split_in_child
from mlxft_tui.data.statistics_panel import StatisticsPanel, unit_of
from mlxft_tui.frame.screen import AppScreen
from mlxft_tui.widgets.ask_line import AskLine
from mlxft_tui.widgets.notices import SENTENCE_SECONDS, inform, show_error, warn
from mlxft_tui.widgets.remappable import with_keys

if TYPE_CHECKING:
    from pathlib import Path

    from mlxft.data.faults import Fault
    from mlxft.data.folder_view import DataView
    from mlxft.data.split_files import SplitName
    from mlxft.data.splitting import Shares, SplitResult
    from mlxft.data.validation import RecordLine
    from mlxft_tui.session import Session

SEARCH: Final = "/"
OPEN: Final = "data"
"""Prompts of the input line at the bottom."""
HOLD_OUT: Final = "Press {data.split} on train to hold out some of its records."

HELD_SECONDS: Final = 0.05
"""How long the screen waits for the first records of other data."""


class DataScreen(AppScreen, keys="data"):
    """Browse and check the records of train, valid and test."""

    HELP = """The recipe's data. A record is one training example, usually a prompt (what the
    model is asked) and a completion (the answer it should learn). {data.view} shows it as
    written, as rendered by the model's chat template, and as tokens, the pieces of text that a
    model reads. Trained tokens count in the loss, masked ones don't; those beyond
    max_seq_length are struck out. An answer without an end token gets one, unlike in mlx-lm:
    without it a model never learns to stop."""
    CSS_PATH = "screen.tcss"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding(
            "left,h",
            "split(-1)",
            "Split",
            key_display="←→",
            tooltip="Previous split",
            id="previous_split",
        ),
        Binding("right,l", "split(1)", "Next split", show=False, id="next_split"),
        Binding("m", "view", "View", tooltip="As text, templated, or as tokens"),
        Binding("i", "ids", "Ids", tooltip="Show or hide token numbers", id="token_ids"),
        Binding("slash", "search", "Search", key_display="/", tooltip="Find records by their text"),
        Binding(
            "n", "find(1)", "Next found", show=False, tooltip="The next match", id="next_match"
        ),
        Binding(
            "N",
            "find(-1)",
            "Last found",
            show=False,
            tooltip="The previous match",
            id="previous_match",
        ),
        Binding("escape", "end_search", "End search", show=False),
        Binding("e", "problems", "Problems", tooltip="Go to the list of problems"),
        Binding("s", "statistics", "Statistics", tooltip="The whole file in numbers"),
        Binding("c", "columns", "Columns", tooltip="Choose which field is the prompt and so on"),
        Binding(
            "x",
            "hold_out",
            "Hold out",
            tooltip="Split this file into train, valid and test",
            id="split",
        ),
        Binding("o", "open", "Open", tooltip="Open other data"),
        Binding("u", "undo", "Undo", tooltip="Undo the last edit of the recipe and its data"),
        Binding("U", "redo", "Redo", show=False, tooltip="Redo the edit that was undone"),
    ]

    split_name: var[SplitName] = var("train")
    shown_as: var[View] = var("text")
    show_ids: var[bool] = var(False)

    def __init__(self, session: Session) -> None:
        super().__init__(session)
        self._nothing = ""
        self._records = RecordList()
        self._record_search = RecordSearch(self._records)
        self._held_frame = contextlib.ExitStack()
        """Open while nothing is painted."""

    def compose_body(self) -> ComposeResult:
        yield SplitTabs()
        with Container(id="panes"):
            with Container(id="records"):
                yield self._records
            yield RecordPane(self.session)
            with Container(id="lengths"):
                yield StatisticsPanel()
            with Container(id="problems"):
                yield ProblemList()
        yield Static(id="nothing")
        yield AskLine()

    def on_mount(self) -> None:
        self.query_one("#records").border_title = "records"
        self.query_one("#lengths").border_title = unit_of(None, self.recipe.loss)
        self.query_one("#problems").border_title = "problems"

    # What is shown

    @property
    def split(self) -> SplitView | None:
        """The file on screen."""
        return self.data.split(self.split_name) if self.data else None

    def watch_data(self, old: DataView | None, new: DataView | None) -> None:
        if old and new and is_progress(old, new):
            # Showing everything again would delay the keys twice a second.
            self.query_one(StatisticsPanel).split = self.split
            return
        self.query_one(SplitTabs).data = self.data
        self._show_split()
        self._held_frame.close()

    def watch_split_name(self) -> None:
        self.query_one(SplitTabs).present = self.split_name
        self._show_split()

    def _show_split(self) -> None:
        split = self.split
        self._show_nothing(self._why_empty(split) if split and not split.lines else "")
        self._records.split = split
        self.query_one(StatisticsPanel).split = split
        self.query_one(ProblemList).split = split
        findings = self._record_search.findings
        if findings is not None and (split is None or split.path != findings.path):
            self.action_end_search()
        self._show_tokens()
        self.refresh_bindings()
        self._show_record()

    def _why_empty(self, split: SplitView) -> str:
        """Why a file shows no records; a missing one can be made from the training set."""
        has_train = self.data is not None and bool(self.data.split("train").lines)
        if split.path.exists() or split.name == "train" or not has_train:
            return split.problem
        return f"{split.problem} {with_keys(self, HOLD_OUT)}"

    def _show_nothing(self, reason: str) -> None:
        """Say why there are no records, in their place; a new text costs a layout."""
        if reason != self._nothing:
            self._nothing = reason
            self.set_class(bool(reason), "-nothing")
            self.query_one("#nothing", Static).update(Content(printable(reason)))

    def watch_tokens(self) -> None:
        self._show_tokens()

    def watch_tokens_problem(self) -> None:
        self.query_one(StatisticsPanel).unmeasured = self.tokens_problem

    def _show_tokens(self) -> None:
        panel, tokens = self.query_one(StatisticsPanel), self.tokens.get(self.split_name)
        panel.tokens = tokens
        panel.recipe = self.recipe
        of_recipe = (*self._size_warnings(), *(tokens.warnings if tokens else ()))
        self.query_one(ProblemList).recipe_warnings = of_recipe
        self.query_one("#problems").border_title = problems_title(self.split, tokens)
        self.query_one("#lengths").border_title = unit_of(panel.tokens, self.recipe.loss)

    def _size_warnings(self) -> Iterator[Fault]:
        """Whether the file is too small for its use."""
        from mlxft.data.data_warnings import too_few

        split = self.split
        if split and split.statistics:
            count, batch_size = split.statistics.records, self.recipe.batch_size
            yield from too_few(split.path, split.name, count, batch_size)

    def watch_show_ids(self) -> None:
        self._show_record()

    def watch_shown_as(self) -> None:
        self.refresh_bindings()
        self._show_record()

    def watch_model(self) -> None:
        self._show_record()

    def watch_model_progress(self) -> None:
        self._show_record()

    def watch_recipe(self) -> None:
        self._records.columns = self.recipe.columns
        self._show_tokens()
        self._show_record()

    @on(RecordList.Moved)
    def _show_record(self) -> None:
        """Show the record under the cursor."""
        records = self._records
        line = records.record(records.cursor) if records.count else None
        pane = self.query_one(RecordPane)
        pane.border_subtitle = Content(self._origin(line) if line else "")
        pane.show_record(
            ShownRecord(
                raw=records.raw(records.cursor) if records.count else None,
                line=line,
                view=self.shown_as,
                show_ids=self.show_ids,
                highlight=self._record_search.highlight,
                recipe=self.recipe,
                model=self.model,
                model_progress=self.model_progress,
            )
        )

    def _origin(self, line: RecordLine) -> str:
        """The format of a record, and its file if the dataset has several."""
        from mlxft.data.compared import format_name
        from mlxft.data.containers import place

        written = format_name(line.format, self.recipe.loss)
        if self.split is None:
            return printable_line(written)
        file, number = place(self.split.path, line.number)
        where = f"{file.name} {number}" if file != self.split.path else ""
        return printable_line("  ".join(filter(None, (written, where))))

    # Search

    def action_search(self) -> None:
        """Ask what to search for."""
        if self.split and self._records.count:
            findings = self._record_search.findings
            before = findings.query.text if findings else ""
            self.query_one(AskLine).ask(SEARCH, before, allow_regex=True)

    def _begin_search(self, query: Query) -> None:
        self.action_end_search()
        try:
            query.pattern()
        except MlxftError as error:
            self._notify_error(error)
            return
        split = self.split
        if query.text and split and split.places:
            self.remove_class("-statistics")  # The hits must be visible.
            self._search(self._record_search.begin(split.path, query, split.places.index.size))

    @work(exclusive=True, group="search")
    async def _search(self, findings: Findings) -> None:
        """Follow the search, which runs in a child process."""
        try:
            async with contextlib.aclosing(findings.search()) as steps:
                async for _ in steps:
                    self._record_search.advance()
                    self._show_findings()
        except MlxftError as error:
            self._notify_error(error)
        self._show_findings()

    def action_find(self, direction: Literal[-1, 1]) -> None:
        """Go to the next or previous match, once it is known."""
        if self._record_search.findings is not None:
            self.remove_class("-statistics")
            self._record_search.step(direction)
            self._show_findings()

    def action_end_search(self) -> None:
        """Cancel the search and forget its matches."""
        self.workers.cancel_group(self, "search")
        self._record_search.end()
        self._show_findings()
        self._show_record()

    def _show_findings(self) -> None:
        if self.app.is_running:
            self.query_one("#records").border_subtitle = Content(self._record_search.note)

    @on(AskLine.Answered)
    def _answered(self, message: AskLine.Answered) -> None:
        self._records.focus()
        if message.purpose == SEARCH:
            self._begin_search(Query(message.text, message.is_regex))
        elif message.text.strip() and message.text != self.recipe.data:
            self._open(message.text.strip())

    @on(AskLine.Cancelled)
    def _not_answered(self) -> None:
        self._records.focus()

    # Other data, other columns

    def action_open(self) -> None:
        """Ask which data to open."""
        self.query_one(AskLine).ask(OPEN, self.recipe.data)

    def _open(self, text: str) -> None:
        try:
            self.set_parameter("data", text)
        except MlxftError as error:
            self._notify_error(error)
        else:
            self._hold_frame()

    def _hold_frame(self) -> None:
        """Paint the records with what closed the input line: one layout instead of two."""
        self._held_frame.enter_context(self.app.batch_update())
        self.set_timer(HELD_SECONDS, self._held_frame.close)

    def action_columns(self) -> None:
        """Choose which field of the records is which."""
        records = self._records.first_records()
        self.app.push_screen(ColumnsDialog(records, self.recipe), self._columns_chosen)

    def _columns_chosen(self, columns: Mapping[str, str] | None) -> None:
        if columns is not None:
            self.set_parameter("columns", columns)

    # Splitting

    def action_hold_out(self) -> None:
        """Ask how much of the file to hold out."""
        from mlxft_tui.data.split import SplitDialog

        split = self.split
        if split is None or split.statistics is None or not split.statistics.records:
            warn(self, "There are no checked records to hold out yet.")
            return
        path, folder = split.path, new_folder(self.session.folder, self.recipe.data)
        dialog = SplitDialog(path.name, split.statistics.records, folder)

        def chosen(answer: tuple[Shares, int] | None) -> None:
            if answer is not None:
                self._hold_out(path, folder, *answer)

        self.app.push_screen(dialog, chosen)

    @work(exclusive=True, group="hold out")
    async def _hold_out(self, path: Path, folder: str, shares: Shares, seed: int) -> None:
        """Write the split files and open them."""
        from mlxft.data.containers import parts_of
        from mlxft.data.splitting import SplitRequest

        statistics = self.query_one("#lengths")
        statistics.border_subtitle = Content(f"writing {printable_line(folder)}/ …")
        try:
            request = SplitRequest(
                files=tuple(str(each) for each in parts_of(path)),
                folder=str(self.session.folder / folder),
                valid=shares.valid,
                test=shares.test,
                seed=seed,
                columns=dict(self.recipe.columns),
            )
            result = await split_in_child(request)
            self.set_parameter("data", folder)
        except MlxftError as error:
            self._notify_error(error)
        else:
            inform(self, split_note(folder, result), seconds=SENTENCE_SECONDS)
        finally:
            statistics.border_subtitle = ""

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
        """Show statistics in place of the record, or the record again."""
        self.toggle_class("-statistics")

    def action_problems(self) -> None:
        problems = self.query_one(ProblemList)
        if problems.count:
            problems.focus()

    @on(ProblemList.Chosen)
    def _go_to_problem(self, message: ProblemList.Chosen) -> None:
        problems = self.query_one(ProblemList)
        # The list may have changed since the key was pressed.
        line = problems.next_line(message.index) if message.index < problems.count else None
        if line is not None:
            self.remove_class("-statistics")
            self._records.cursor = line - 1
            self._records.focus()

    def _notify_error(self, error: MlxftError) -> None:
        show_error(self, error)

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        if action == "problems" and self.is_mounted:
            return True if self.query_one(ProblemList).count else None
        if action == "ids":
            return True if self.shown_as == "tokens" else None
        if action in ("find", "end_search"):
            return self._record_search.findings is not None
        return super().check_action(action, parameters)


def split_note(folder: str, result: SplitResult) -> str:
    """What was written, in a sentence."""
    counts = ", ".join(f"{name} {figures.count(n)}" for name, n in result.records.items())
    skipped = f"; skipped {figures.count(result.faulty)} faulty" if result.faulty else ""
    return printable_line(f"Wrote {folder}/: {counts}{skipped}.")
