"""The top line names the screens and switches between them."""

from __future__ import annotations

from pathlib import Path

from mlxft_tui.app import MlxftApp
from support.session import RECIPE, Opened, QuietSession, screen_text


async def test_a_click_in_the_screen_bar_switches_screens(opened: Opened) -> None:
    app = opened()
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.click("ScreenBar", offset=(12, 0))
        assert app.current_mode == "recipe"


async def test_a_narrow_screen_bar_names_the_current_screen(opened: Opened) -> None:
    app = opened()
    async with app.run_test(size=(40, 12)) as pilot:
        await pilot.press("5")
        assert " 1   2   3   4  [5 Runs]" in screen_text(app)
        await pilot.click("ScreenBar", offset=(6, 0))
        assert " 1  [2 Recipe]  3   4   5 " in screen_text(app)


async def test_of_a_folder_that_does_not_fit_the_end_is_shown(tmp_path: Path) -> None:
    folder = tmp_path / "a-long-way" / "to-the-lamps"
    folder.mkdir(parents=True)
    app = MlxftApp(folder, RECIPE, None, QuietSession(folder))
    async with app.run_test(size=(80, 24)):
        top = screen_text(app).splitlines()[0].rstrip()
        assert top.endswith("/to-the-lamps")
        assert "…" in top
