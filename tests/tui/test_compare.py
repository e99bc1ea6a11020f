"""Runs side by side: marked in Runs, their curves in one plot, and what is beside those."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest

from mlxft import recipe as recipes
from mlxft.comparison.evaluations import keep_evaluation
from mlxft.comparison.labels import change_labels
from mlxft.conversation.scores import Case, evaluation, scored
from mlxft.runs import events as ev
from mlxft.runs.directory import RunDirectory
from mlxft_tui.chat.screen import ChatScreen
from mlxft_tui.compare.screen import CompareScreen
from support.journal import RUN_START, ended, trained_run, write_run
from support.session import RECIPE, SIZES, Opened, place, screen_text, settled, words


@pytest.fixture
def runs(folder: Path) -> list[RunDirectory]:
    """Two runs with other recipes and losses, which have answered the same prompt."""
    return [
        _written(folder, ["learning_rate=1e-4"], steps=60, factor=1.2),
        _written(folder, ["lora_parameters.rank=16"], steps=100, factor=0.9),
    ]


def _written(folder: Path, settings: list[str], *, steps: int, factor: float) -> RunDirectory:
    recipe = recipes.apply_settings(RECIPE, settings)
    events: list[ev.AnyEvent] = []
    for event in trained_run(recipe, steps):
        if isinstance(event, ev.StepFinished):
            event = msgspec.structs.replace(event, loss=factor * event.loss, gradient_norm=factor)
        events.append(event)
        if isinstance(event, ev.CheckpointSaved):
            text = f"The keeper,\nat rate {recipe.learning_rate:g}."
            events.append(
                ev.SampleAnswered(
                    step=event.step, prompt="Who lights them?", text=text, tokens=5, seconds=1.0
                )
            )
    run = write_run(folder / "adapters", recipe, [*events, ended(steps)])
    run.adapter_file.write_bytes(b"weights")
    said = [scored("the lamp", "the lamp" if number < steps / 10 else "no") for number in range(10)]
    cases = [Case(f"line {number}", "?", "?", (each,)) for number, each in enumerate(said)]
    found = evaluation("test", records=10, tokens=90, losses=[("adapter", factor)], cases=cases)
    keep_evaluation(run, found, data="~/lamps/data", now=RUN_START)
    return run


async def compared(pilot: Any, *keys: str) -> None:
    """Mark both runs and compare them."""
    await settled(pilot)
    await pilot.press("5")
    await settled(pilot)
    await pilot.press("space", "space", "c")
    await drawn(pilot, *keys)


async def drawn(pilot: Any, *keys: str) -> None:
    """Press keys and wait until their plot is drawn."""
    await settled(pilot, "compare", "overlay")
    if keys:
        await pilot.press(*keys)
        await settled(pilot, "compare", "overlay")


class TestLooks:
    @pytest.mark.parametrize("size", SIZES)
    def test_curves(
        self,
        opened: Opened,
        runs: list[RunDirectory],
        snap_compare: Any,
        size: tuple[int, int],
    ) -> None:
        async def before(pilot: Any) -> None:
            await compared(pilot, "down", "left", "h")

        assert snap_compare(opened(), terminal_size=size, run_before=before)

    @pytest.mark.parametrize("key", ["d", "e", "w"])
    def test_pages(
        self, opened: Opened, runs: list[RunDirectory], snap_compare: Any, key: str
    ) -> None:
        async def before(pilot: Any) -> None:
            await compared(pilot, key)

        assert snap_compare(opened(), terminal_size=(80, 24), run_before=before)


async def test_keys_change_the_plot_and_close_one_thing_after_the_other(
    opened: Opened, runs: list[RunDirectory]
) -> None:
    app = opened()
    async with app.run_test(size=(120, 40)) as pilot:
        await compared(pilot)
        assert "1 smollm2-lora-2" in screen_text(app)
        await drawn(pilot, "m", "x", "y", "left")
        title = screen_text(app).splitlines()[2]
        assert title.split()[:2] == ["─", "validation"]
        assert "at 40k tokens" in title.replace("40,000", "40k")
        assert "log  over tokens" in title
        await drawn(pilot, "d")
        assert "lora_parameters.rank" in words(app)
        for _ in range(2):
            await drawn(pilot, "escape")
            assert isinstance(app.screen, CompareScreen)
        await drawn(pilot, "escape")
        assert app.screen is place(app)


async def test_without_colours_curves_bear_their_runs_numbers(
    opened: Opened, runs: list[RunDirectory], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    app = opened()
    async with app.run_test(size=(80, 24)) as pilot:
        await compared(pilot)
        chart = "".join(line[10:] for line in screen_text(app).splitlines()[3:-8])
        assert all(chart.count(number) > 1 for number in "12")


async def test_runs_have_the_names_that_the_table_shows(
    opened: Opened, runs: list[RunDirectory]
) -> None:
    change_labels(runs[1], lambda labels: msgspec.structs.replace(labels, name="Night run"))
    app = opened()
    async with app.run_test(size=(80, 24)) as pilot:
        await compared(pilot)
        assert "1 Night run" in screen_text(app)
        for page in ("d", "e"):
            await drawn(pilot, page)
            assert "1 Night run" in screen_text(app)
            assert "smollm2-lora-2" not in screen_text(app)
        # Columns without room stand below.
        assert all(title in words(app) for title in ("best val", "before", "peak", "time"))


async def test_one_run_alone_is_what_is_under_the_cursor(
    opened: Opened, runs: list[RunDirectory]
) -> None:
    app = opened()
    async with app.run_test(size=(80, 24)) as pilot:
        await settled(pilot)
        await pilot.press("5")
        await settled(pilot)
        await pilot.press("down", "c")
        await drawn(pilot, "space")
        text = screen_text(app)
        assert "1 smollm2-lora-1" in text
        assert "smollm2-lora-2" not in text.splitlines()[-3]


async def test_both_runs_answer_side_by_side(opened: Opened, runs: list[RunDirectory]) -> None:
    change_labels(runs[0], lambda labels: msgspec.structs.replace(labels, name="First try"))
    change_labels(runs[1], lambda labels: msgspec.structs.replace(labels, name="Night run"))
    app = opened(follow=runs[0])
    async with app.run_test(size=(120, 40)) as pilot:
        await compared(pilot, "c")
        await settled(pilot)
        assert app.current_mode == "chat"
        assert isinstance(app.screen, ChatScreen)
        asked = words(app, "#answerers")
        assert "● run Night run" in asked
        assert "● adapter First try" in asked
        headings = [title for _, title in app.screen._choice.titles]
        assert headings == ["Night run", "adapter · step 60"]


async def test_runs_of_other_models_cannot_answer_side_by_side(
    opened: Opened, runs: list[RunDirectory], folder: Path
) -> None:
    _written(folder, ["model=models/other"], steps=20, factor=1.0)
    app = opened()
    async with app.run_test(size=(120, 40), notifications=True) as pilot:
        await compared(pilot, "c")
        await pilot.pause()
        assert "The two runs train other models" in words(app)


async def test_without_braille_the_legend_has_the_marks_of_the_curves(
    opened: Opened, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TERM", "linux")
    for _ in range(10):
        _written(folder, [], steps=20, factor=1.0)
    app = opened()
    async with app.run_test(size=(120, 40)) as pilot:
        await settled(pilot)
        await pilot.press("5")
        await settled(pilot)
        await pilot.press(*["space"] * 10, "c")
        await drawn(pilot)
        assert "- 9 smollm2" in words(app, "#legend")
        assert "* 10 smollm2" in words(app, "#legend")
