"""The Data screen's view of tokens: which are trained, masked or cut, and their weights."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
import pytest

from mlxft import recipe as recipes
from mlxft.data.token_view import TokenView
from mlxft.engine.protocol import Preview
from support import session as sessions
from support.records import token_figures, token_view
from support.session import RECIPE, SIZES, Opened, place, screen_text, session, settled, words


def weighted(view: TokenView, weights: Sequence[float]) -> TokenView:
    """The view with these weights of its tokens."""
    pieces = zip(view.pieces, weights, strict=True)
    made = tuple(msgspec.structs.replace(piece, weight=weight) for piece, weight in pieces)
    return msgspec.structs.replace(view, pieces=made)


async def tokens_shown(pilot: Any) -> None:
    await settled(pilot)
    await pilot.press("m", "m")
    await settled(pilot)


class TestLooks:
    @pytest.mark.parametrize("size", SIZES)
    def test_tokens(self, opened: Opened, snap_compare: Any, size: tuple[int, int]) -> None:
        recipe = recipes.apply_settings(RECIPE, ["mask_prompt=true", "max_seq_length=15"])

        assert snap_compare(opened(recipe), terminal_size=size, run_before=tokens_shown)

    @pytest.mark.parametrize("size", SIZES)
    def test_weights(
        self,
        opened: Opened,
        snap_compare: Any,
        monkeypatch: pytest.MonkeyPatch,
        size: tuple[int, int],
    ) -> None:
        weights = (*(1.0,) * 12, 0.5, 0.5, 2.0, 2.0, 1.0)
        monkeypatch.setattr(
            sessions,
            "token_view",
            lambda command: weighted(token_view(command), weights),
        )
        monkeypatch.setattr(
            sessions,
            "token_figures",
            lambda command: msgspec.structs.replace(
                token_figures(command), trained_as=420, trained_weight=2450.0
            ),
        )
        recipe = recipes.apply_settings(RECIPE, ["train_on=last_answer"])

        assert snap_compare(opened(recipe), terminal_size=size, run_before=tokens_shown)

    @pytest.mark.parametrize("size", SIZES)
    def test_notes_on_tokens(
        self,
        opened: Opened,
        snap_compare: Any,
        monkeypatch: pytest.MonkeyPatch,
        size: tuple[int, int],
    ) -> None:
        notes = (
            "1 of 2 answers are marked as not to be trained.",
            "The chat template writes the current date; a run keeps that of its start.",
            "The chat template leaves out the tools, the tool calls and reasoning of this record.",
            "The record begins with two beginning tokens or ends with two end tokens.",
        )
        monkeypatch.setattr(
            sessions,
            "token_view",
            lambda command: msgspec.structs.replace(token_view(command), notes=notes),
        )

        async def before(pilot: Any) -> None:
            await settled(pilot)
            await pilot.press("m", "m")
            await settled(pilot)

        assert snap_compare(opened(), terminal_size=size, run_before=before)


class TestRecipe:
    async def test_masked_and_cut_tokens_follow_the_recipe(self, opened: Opened) -> None:
        app = opened(recipes.apply_settings(RECIPE, ["mask_prompt=true", "max_seq_length=15"]))
        async with app.run_test(size=(120, 40)) as pilot:
            await settled(pilot)
            await pilot.press("m", "m")
            await settled(pilot)
            assert "trained 4 masked 11 cut 2 of 17 tokens" in words(app, "#record")
            command = [c for c in session(app).scripted.commands if isinstance(c, Preview)][-1]
            assert command.recipe == place(app).recipe


class TestTokenIds:
    async def test_a_key_toggles_them(self, opened: Opened) -> None:
        app = opened()
        async with app.run_test(size=(120, 40)) as pilot:
            await settled(pilot)
            await pilot.press("m", "m", "i")
            await settled(pilot)
            assert "<|im_start|>₀" in screen_text(app)
            assert "user↵₁" in screen_text(app)
            await pilot.press("i")
            await settled(pilot)
            assert "₀" not in screen_text(app)
