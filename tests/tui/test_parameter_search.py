"""The search for a parameter on the Recipe screen."""

from __future__ import annotations

from mlxft_tui.recipe.form import RecipeRows
from support.session import Opened, screen_text
from tui.test_recipe_screen import opened_at


class TestSearch:
    async def test_a_parameter_is_found_by_its_name_and_then_by_its_help(
        self, opened: Opened
    ) -> None:
        app = opened()
        async with app.run_test(size=(80, 24), notifications=True) as pilot:
            await opened_at(pilot, "model")
            rows = app.screen.query_one(RecipeRows)
            for keys, found in (
                ("max grad", "max_grad_norm"),
                ("SCALE", "lora_parameters.scale"),
                ("lr_schedule.warmup", "lr_schedule.warmup"),
                ("", "lr_schedule.warmup_init"),
                ("hugging face dataset", "data"),
            ):
                await pilot.press("/", *("space" if key == " " else key for key in keys), "enter")
                await pilot.pause()
                assert rows.parameter.key == found
                assert app.focused is rows
                if not keys:
                    said = "2 of 2 with lr_schedule.warmup; / ⏎ goes to the next."
                    assert said in screen_text(app)
            await pilot.press("/", *"nonsense", "enter")
            await pilot.pause()
            assert "No parameter has nonsense in its name or help." in screen_text(app)
            await pilot.press("/", "x", "escape", "down")
            assert rows.parameter.key != "data"
