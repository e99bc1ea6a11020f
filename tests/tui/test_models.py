"""The dialog to choose a model: what is here, what the hub has, and downloads."""

from __future__ import annotations

import asyncio
import json
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mlxft.hub.listed import Machine
from mlxft.memory.local_config import snapshot_of
from mlxft.recipe import Recipe
from mlxft_tui.app import MlxftApp
from support.hub_server import EIGHT_BILLION, HubServer
from support.hub_server import hub as hub
from support.hub_server import server as server
from support.models import make_tiny_model
from support.session import SIZES, Opened, settled, words

LONG = "mlx-community/Llama-3.1-with-a-name-that-is-longer-than-any-column-8B-Instruct"


@pytest.fixture(autouse=True)
def _here(
    hub: HubServer, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[None]:
    """A machine of 18 GB; two models in the project and three on the hub."""
    monkeypatch.setenv("HOME", str(tmp_path))

    def machine(recipe: Recipe) -> Machine:
        return Machine("metal", 14 * 10**9, recipe)

    monkeypatch.setattr("mlxft_tui.app.model_choice.this_machine", machine)
    small = make_tiny_model(folder / "tiny")
    (make_tiny_model(folder / "unfinished") / "tokenizer.json").unlink()
    hub.add("org/tiny-chat", small, downloads=1_234_567)
    hub.add("org/tiny-gated", small, gated=True)
    large = make_tiny_model(tmp_path / "large")
    (large / "config.json").write_text(json.dumps(EIGHT_BILLION))
    hub.add(LONG, large, downloads=98_765, likes=4)
    yield
    hub.release.set()


async def asked(pilot: Any) -> None:
    """The dialog on the Recipe screen, with what is here."""
    await settled(pilot)
    await pilot.press("2")
    await settled(pilot)
    await pilot.press("m")
    await settled(pilot, "model-choice", "models")


async def searched(pilot: Any, text: str) -> None:
    await pilot.press(*text, "ctrl+s")
    await settled(pilot, "search")


async def titled(pilot: Any, title: str) -> None:
    """Wait for the dialog's title; reading the words of the screen would paint what is behind."""
    async with asyncio.timeout(60):
        while not any(each.border_title == title for each in pilot.app.screen.query("#picker")):
            await pilot.pause()


async def until(app: MlxftApp, text: str) -> None:
    async with asyncio.timeout(60):
        while text not in words(app):
            await asyncio.sleep(0.02)


class TestPictures:
    @pytest.mark.parametrize("size", SIZES)
    def test_the_hub(self, opened: Opened, snap_compare: Any, size: tuple[int, int]) -> None:
        async def before(pilot: Any) -> None:
            # Over a screen without parameters, which would change the picture with each new one.
            await settled(pilot)
            await pilot.press("5")
            await settled(pilot)
            pilot.app.project.model_choice.request()
            await titled(pilot, "models here: 2")
            await searched(pilot, "a")
            await titled(pilot, "models on the hub: 3")
            await pilot.press("down")

        assert snap_compare(opened(Recipe()), terminal_size=size, run_before=before)


class TestHere:
    async def test_a_filter_leaves_what_is_chosen(self, opened: Opened, folder: Path) -> None:
        app = opened()
        async with app.run_test(size=(120, 40), notifications=True) as pilot:
            await asked(pilot)
            assert "models here: 2" in words(app)
            await pilot.press(*"unf", "enter")
            assert "its tokenizer is missing" in words(app)
            assert app.session.edits.recipe.model != "unfinished"
            await pilot.press("backspace", "backspace", "backspace", *"ti", "enter")
            assert app.session.edits.recipe.model == "tiny"
            assert not app.screen.is_modal

    async def test_without_the_hub_what_is_here_stays(
        self, opened: Opened, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
        app = opened()
        async with app.run_test(size=(120, 40)) as pilot:
            await asked(pilot)
            await searched(pilot, "t")
            assert "hub can't be reached" in words(app)
            assert "models here: 1" in words(app)


class TestDownload:
    async def test_a_model_of_the_hub_is_downloaded_and_then_chosen(self, opened: Opened) -> None:
        app = opened()
        async with app.run_test(size=(120, 40), notifications=True) as pilot:
            await asked(pilot)
            await searched(pilot, "tiny")
            await pilot.press(*"-gated", "enter")
            assert "accept its licence" in words(app)
            await pilot.press(*["backspace"] * 5, *"chat", "enter")
            await until(app, "org/tiny-chat is here.")
            assert snapshot_of("org/tiny-chat") is not None
            await settled(pilot, "models")
            await pilot.press("enter")
            assert app.session.edits.recipe.model == "org/tiny-chat"

    @pytest.fixture
    def ctrl_c_is_ignored(self) -> Iterator[None]:
        """As in an application that a script has started in its background."""
        before = signal.signal(signal.SIGINT, signal.SIG_IGN)
        yield
        signal.signal(signal.SIGINT, before)

    @pytest.mark.usefixtures("ctrl_c_is_ignored")
    async def test_it_is_cancelled_and_continues_while_the_dialog_is_closed(
        self, opened: Opened, hub: HubServer
    ) -> None:
        hub.faults["model.safetensors"] = "held"
        app = opened()
        async with app.run_test(size=(120, 40), notifications=True) as pilot:
            await asked(pilot)
            await searched(pilot, "tiny-chat")
            await pilot.press("enter")
            await until(app, "downloading")
            await pilot.press("ctrl+t")
            await until(app, "what has arrived is kept")
            assert snapshot_of("org/tiny-chat") is None
            await pilot.press("escape", *["backspace"] * 4)
            await settled(pilot, "models")
            assert "its download was interrupted" in words(app)
            await pilot.press("enter")
            await until(app, "downloading")
            await pilot.press("escape")
            assert not app.screen.is_modal
            hub.release.set()
            await until(app, "org/tiny-chat is here. m on Recipe shows it.")
