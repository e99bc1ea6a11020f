"""Notices show their text as it is."""

from __future__ import annotations

from textual.app import App
from textual.widgets._toast import Toast

from mlxft.errors import RunError
from mlxft_tui.widgets.notices import inform, show_error


async def test_names_of_runs_are_text_and_not_markup() -> None:
    app: App[None] = App()
    async with app.run_test(notifications=True) as pilot:
        inform(app, "lamp[red]\x1b[2J was deleted.")
        show_error(app, RunError("lamp[/]: its folder is gone."))
        while len(toasts := app.screen.query(Toast)) < 2:
            await pilot.pause()
        shown = [str(each.render()) for each in toasts]
    assert "lamp[red]" in shown[0]
    assert "lamp[/]: its folder is gone." in shown[1]
