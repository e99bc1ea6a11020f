"""The application with the user's own keys."""

from __future__ import annotations

import pytest

from mlxft.errors import MlxftError
from mlxft.storage.paths import keys_file
from mlxft_tui.chat.prompt_input import PromptInput
from mlxft_tui.frame.confirm import ConfirmDialog
from mlxft_tui.frame.help import HelpScreen
from mlxft_tui.frame.screen_bar import ScreenBar
from mlxft_tui.keymap import every_key
from support.session import Opened, screen_text, settled, words

KEYS = """
"go.chat" = "f9"
"app.quit" = "f10"
"chat.send" = "ctrl+s"
"recipe.fit" = "ctrl+f"
"screen.next_pane" = "f8"
"""


def remap(text: str) -> None:
    keys_file().parent.mkdir(exist_ok=True)
    keys_file().write_text(text)


def tooltip(binding_id: str) -> str:
    (found,) = {each.explanation for each in every_key({}) if each.id == binding_id}
    return found


async def test_key_bar_and_help_show_the_users_keys(opened: Opened) -> None:
    remap(KEYS)
    app = opened()
    async with app.run_test(size=(120, 80)) as pilot:
        await settled(pilot)
        await pilot.press("2")
        assert "a Apply ^f Fit u Undo" in words(app)
        assert "f10 Quit" in words(app)
        await pilot.press("question_mark")
        await settled(pilot)
        shown = words(app)
        assert f"f10 ^q {tooltip('app.quit')}" in shown
        assert f"f9 {tooltip('go.chat')}" in shown
        assert f" q {tooltip('app.quit')}" not in shown


async def test_help_names_each_key_of_an_action_once(opened: Opened) -> None:
    app = opened()
    async with app.run_test(size=(120, 80)) as pilot:
        await settled(pilot)
        await pilot.press("question_mark")
        await settled(pilot)
        shown = words(app, "#help")
        assert "← h Previous split → l Next split" in shown, shown
        await pilot.press("escape", "4", "escape", "question_mark")
        await settled(pilot)
        shown = words(app, "#help")
        assert "↑ Scroll up" in shown
        assert "Scroll left" not in shown


async def test_help_of_a_sheet_names_the_keys_that_act_there(opened: Opened) -> None:
    remap('"sampling.next" = "f7"\n"sampling.accept" = "f8"')
    app = opened()
    async with app.run_test(size=(120, 80)) as pilot:
        await settled(pilot)
        await pilot.press("4", "escape", "s")
        await pilot.pause()
        assert "f8 apply" in screen_text(app)
        app.push_screen(HelpScreen(app.screen))
        await settled(pilot)
        shown = words(app, "#help")
        assert "f7 Next field ↑ Previous field" in shown, shown
        assert "f8 Apply" in shown
        assert "Scroll" not in shown


async def test_texts_name_the_users_keys(opened: Opened) -> None:
    remap('"recipe.train" = "f7"\n"chat.models" = "f8"\n"confirm.yes" = "f6"')
    app = opened()
    async with app.run_test(size=(120, 80)) as pilot:
        await settled(pilot)
        await pilot.press("2")
        assert "f7 Start training" in words(app)
        await pilot.press("question_mark")
        await settled(pilot)
        assert "until you press f7." in words(app)
        await pilot.press("escape", "4")
        await settled(pilot)
        assert "f8 choose one or two models" in words(app)
        app.push_screen(ConfirmDialog("Delete it?", "Delete"))
        await settled(pilot)
        assert "f6 Delete n Cancel" in words(app)


async def test_messages_name_the_users_keys(opened: Opened) -> None:
    remap('"go.recipe" = "f6"\n"form.more" = "f7"\n"data.split" = "f8"\n"chat.send" = "ctrl+s"')
    app = opened()
    async with app.run_test(size=(120, 40)) as pilot:
        await settled(pilot)
        await pilot.press("left")
        await settled(pilot)
        assert "Press f8 on train to hold out some of its records." in screen_text(app)
        await pilot.press("f6", "question_mark")
        await settled(pilot)
        assert "← and f7 step it along its scale" in words(app)
        await pilot.press("escape", "4")
        await settled(pilot)
        assert "Ask something; ^s sends, ^j inserts a new line" in screen_text(app)


async def test_the_new_key_acts_and_the_old_one_does_not(opened: Opened) -> None:
    remap(KEYS)
    app = opened()
    async with app.run_test(size=(120, 40)) as pilot:
        await settled(pilot)
        await pilot.press("4", "q")
        assert app.current_mode == "data"
        assert app.is_running
        await pilot.press("f9")
        assert app.current_mode == "chat"
        assert "1 Data 2 Recipe 3 Train [f9 Chat] 5 Runs" in words(app)
        await pilot.press("f1")
        await pilot.click(ScreenBar, offset=(35, 0))
        assert app.current_mode == "chat"
        await pilot.press("f1", "f10")
        assert not app.is_running


async def test_a_prompt_is_sent_with_the_users_key(opened: Opened) -> None:
    remap(KEYS)
    app = opened()
    async with app.run_test(size=(120, 40)) as pilot:
        await settled(pilot)
        await pilot.press("f9", "H", "i")
        line = app.screen.query_one(PromptInput)
        await pilot.press("enter", "o", "h")
        assert line.text == "Hi\noh"
        await pilot.press("ctrl+s")
        await settled(pilot)
        assert line.text == ""


async def test_a_disabled_key_explains_itself_under_its_new_key(opened: Opened) -> None:
    remap('"train.pause" = "f9"')
    app = opened()
    async with app.run_test(size=(120, 40)) as pilot:
        await settled(pilot)
        await pilot.press("3", "f9")
        await settled(pilot)
        assert "run" in words(app)


def test_an_unknown_id_is_an_error_before_the_app_opens(opened: Opened) -> None:
    remap('"train.puase" = "f9"')
    with pytest.raises(MlxftError, match=r"did you mean train\.pause"):
        opened()
