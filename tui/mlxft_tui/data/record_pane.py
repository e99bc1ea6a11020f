"""The pane that shows one record: as text, rendered by the chat template, or as tokens."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from textual import work
from textual.content import Content

from mlxft import recipe as recipes
from mlxft.engine.protocol import OpenModel, Preview, Previewed
from mlxft.errors import MlxftError
from mlxft.recipe import Recipe
from mlxft.text.printable import printable
from mlxft_tui.data import record_view
from mlxft_tui.data.record_view import VIEWS, View
from mlxft_tui.widgets.opening import opening_note
from mlxft_tui.widgets.text_pane import TextPane

if TYPE_CHECKING:
    from mlxft.data.validation import RecordLine
    from mlxft.engine.protocol import ModelOpened
    from mlxft.runs.events import ProgressMade
    from mlxft_tui.session import Session

SETTLE_SECONDS: Final = 0.08
"""How long the cursor must rest on a record before it is sent to the model service."""


@dataclass(frozen=True, kw_only=True)
class ShownRecord:
    """Everything that determines what the pane shows."""

    raw: bytes | None
    """The line as it is in the file; None if there is none."""
    line: RecordLine | None
    """Its record; None if the line is too long to parse."""
    view: View
    show_ids: bool
    highlight: re.Pattern[str] | None
    recipe: Recipe
    model: ModelOpened | None
    model_progress: ProgressMade | str | None

    @property
    def key(self) -> tuple[object, ...]:
        """Equal if the pane shows the same."""
        tokens = recipes.token_settings(self.recipe, "tokens", "truncation")
        view = (self.view, self.show_ids, self.highlight)
        compares = self.recipe.loss != "sft"
        return (self.raw, *view, compares, tokens, self.model, self.model_progress)


class RecordPane(TextPane):
    """Shows a record; only the template and token views need the model service."""

    HELP = """The record under the cursor in three views. text: its fields. templated: the record as
    the model's chat template renders it. tokens: the pieces of text that the model reads and
    predicts; trained ones count in the loss, those after ×0.5 half as much, masked ones (usually
    the prompt) don't, and cut ones are beyond max_seq_length."""

    SAVES_LAYOUTS = True

    def __init__(self, session: Session) -> None:
        super().__init__("record")
        self._session = session
        self._key: tuple[object, ...] = ()

    def show_record(self, shown: ShownRecord) -> None:
        """Show a record, unless it is shown already."""
        if shown.key == self._key:
            return
        self._key = shown.key
        self.border_title = views_title(shown.view)
        self.workers.cancel_group(self, "preview")
        raw, line = shown.raw, shown.line
        if not raw:
            self._replace(Content(""))
        elif line is None:
            self._replace(record_view.raw_content(raw))
        elif shown.view == "text" or line.fields is None or line.faults:
            compares = shown.recipe.loss != "sft"
            self._replace(record_view.text_content(line, raw, shown.highlight, compares=compares))
        elif shown.model is None:
            self._replace(opening_note("This view", shown.model_progress))
        else:
            compares = shown.recipe.loss != "sft"
            self._preview(line.fields, line.rejected if compares else None, shown)

    @work(exclusive=True, group="preview")
    async def _preview(
        self, fields: Mapping[str, Any], rejected: Mapping[str, Any] | None, shown: ShownRecord
    ) -> None:
        """Show the record through the model's own chat template and tokenizer; of a preference
        both sides, of which only the answers are trained."""
        await asyncio.sleep(SETTLE_SECONDS)
        recipe = shown.recipe
        if recipe.loss != "sft":
            recipe = recipes.replace(recipe, "train_on", "last_answer")
        views: list[Content] = []
        try:
            client = await self._session.service()
            if client.model is None:
                # A restarted service has no model yet.
                await client.send(OpenModel(recipe.model, recipe.trust_remote_code))
            for side in (fields, rejected):
                if side is None:
                    continue
                async for reply in client.stream(Preview(dict(side), recipe)):
                    if isinstance(reply, Previewed):
                        tokens = record_view.tokens_content(reply.view, shown.show_ids)
                        templated = record_view.templated_content(reply.view)
                        views.append(tokens if shown.view == "tokens" else templated)
            if views:
                self._replace(views[0] if rejected is None else record_view.of_sides(*views))
        except MlxftError as error:
            self._replace(Content.styled(printable(str(error)), "$error"))

    def _replace(self, content: Content) -> None:
        if self.app.is_running:
            self.scroll_home(animate=False, immediate=True)
            self.show(content)


def views_title(shown: View) -> Content:
    """The three views, the current one in brackets."""
    return Content(" ".join(f"[{view}]" if view == shown else view for view in VIEWS))
