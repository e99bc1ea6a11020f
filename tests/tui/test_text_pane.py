"""A pane of text."""

from __future__ import annotations

from textual.app import App, ComposeResult
from textual.content import Content
from textual.widgets import Static

from mlxft_tui.widgets.text_pane import TextPane


class SteadyPane(TextPane):
    """A pane whose scrollbar stays."""

    SAVES_LAYOUTS = True


class PaneApp(App[None]):
    """A pane with ten lines below a fixed one."""

    CSS = "SteadyPane { height: 10; }"

    def compose(self) -> ComposeResult:
        yield Static("title")
        yield SteadyPane("pane")


def lines(count: int) -> Content:
    return Content("\n".join(f"line {number}" for number in range(count)))


async def test_texts_of_any_length_follow_each_other_without_a_layout() -> None:
    async with PaneApp().run_test(size=(40, 20)) as pilot:
        pane, layouts = pilot.app.query_one(SteadyPane), list[object]()
        pane.show(lines(30))
        await pilot.pause()
        pilot.app.screen.screen_layout_refresh_signal.subscribe(pane, layouts.append)
        heights = []
        for count in (3, 25, 12, 9):
            pane.show(lines(count))
            await pilot.pause()
            heights.append(pane.max_scroll_y)
        assert heights == [0, 15, 2, 0]
        assert layouts == []


async def test_a_text_that_fits_after_a_resize_has_no_scrollbar() -> None:
    async with PaneApp().run_test(size=(40, 20)) as pilot:
        pane = pilot.app.query_one(SteadyPane)
        pane.show(lines(30))
        await pilot.pause()
        assert pane.show_vertical_scrollbar
        pane.show(lines(3))
        await pilot.resize_terminal(60, 20)
        await pilot.pause()
        assert not pane.show_vertical_scrollbar
