"""The Data screen: records, their three views, and their problems."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from mlxft import recipe as recipes
from mlxft.data import hub
from mlxft.data.faults import Problem
from mlxft.data.token_statistics import DATED, DOUBLED, LOSS_MARKS, SPAN_ROW, TokenLengths
from mlxft.data.token_statistics import token_figures as token_figures_of
from mlxft.errors import DataError
from mlxft_tui.data.findings import Findings
from support import session as sessions
from support.records import records, token_figures, write_records
from support.session import RECIPE, SIZES, Opened, place, screen_text, session, settled, words

MESSAGES = ("down",) * 2
CONTENT = ("end", "up", "up")
"""Keys that move to lines of the columns dialog."""

FAULTY: list[Any] = [
    *records(4),
    '{"prompt": "x", "completion',
    {"prompt": "a prompt without its answer"},
    records(1)[0],
]


class TestLooks:
    @pytest.mark.parametrize("size", SIZES)
    def test_records(self, opened: Opened, snap_compare: Any, size: tuple[int, int]) -> None:
        async def before(pilot: Any) -> None:
            await settled(pilot)
            await pilot.press("down", "down")
            await settled(pilot)

        assert snap_compare(opened(), terminal_size=size, run_before=before)

    @pytest.mark.parametrize("size", SIZES)
    def test_faults(
        self, opened: Opened, folder: Path, snap_compare: Any, size: tuple[int, int]
    ) -> None:
        write_records(folder / "data" / "train.jsonl", FAULTY)

        async def before(pilot: Any) -> None:
            await settled(pilot)
            await pilot.press("e", "enter")
            await settled(pilot)

        assert snap_compare(opened(), terminal_size=size, run_before=before)

    @pytest.mark.parametrize("size", SIZES)
    def test_warnings(
        self,
        opened: Opened,
        folder: Path,
        snap_compare: Any,
        monkeypatch: pytest.MonkeyPatch,
        size: tuple[int, int],
    ) -> None:
        """Of the records themselves, and of what the model's chat template makes of them."""
        flagged = {"role": "assistant", "content": "No.", "weight": 0}
        turns = [{"role": "user", "content": "On?"}, {"role": "assistant", "content": "Yes."}]
        rows = [
            *records(30),
            {**records(31)[30], "label": False},
            {**records(32)[31], "reasoning": "the lamp is there"},
            {"messages": [*turns, turns[0], flagged, *turns]},
            {"messages": [turns[0], {**turns[1], "weight": 0.5, "rationale": "since it is dark"}]},
        ]
        write_records(folder / "data" / "train.jsonl", rows)
        found = TokenLengths(
            lengths=np.array([20, 20], np.uint32),
            spans=np.array([(0, 1, 20, 1.0), (1, 1, 20, 1.0)], SPAN_ROW),
            records=2,
            lines=np.array([1, 2], np.uint32),
            marks=np.array([sum(LOSS_MARKS.values()) | DATED | DOUBLED, 0], np.uint32),
            refused=np.array([3], np.uint32),
            refusal="no system message, please",
        )
        warnings = token_figures_of(found, RECIPE, "train.jsonl").warnings
        monkeypatch.setattr(
            sessions,
            "token_figures",
            lambda command: msgspec.structs.replace(
                token_figures(command), refused=1, warnings=warnings
            ),
        )

        async def before(pilot: Any) -> None:
            await settled(pilot)
            await pilot.press("s", "e")
            await settled(pilot)

        assert snap_compare(opened(), terminal_size=size, run_before=before)

    @pytest.mark.parametrize("size", SIZES)
    def test_search_and_statistics(
        self, opened: Opened, snap_compare: Any, size: tuple[int, int]
    ) -> None:
        recipe = recipes.apply_settings(RECIPE, ["max_seq_length=24"])

        async def before(pilot: Any) -> None:
            await settled(pilot)
            await pilot.press("slash", *"lamp 7", "enter")
            await settled(pilot, "search")
            await pilot.press("s")
            await settled(pilot)

        assert snap_compare(opened(recipe), terminal_size=size, run_before=before)

    @pytest.mark.parametrize("size", SIZES)
    def test_columns(self, opened: Opened, snap_compare: Any, size: tuple[int, int]) -> None:
        async def before(pilot: Any) -> None:
            await settled(pilot)
            await pilot.press("c", "right")
            await settled(pilot)

        assert snap_compare(opened(), terminal_size=size, run_before=before)

    @pytest.mark.parametrize("size", SIZES)
    def test_text_of_all_kinds(
        self, opened: Opened, folder: Path, snap_compare: Any, size: tuple[int, int]
    ) -> None:
        odd = {
            "prompt": "漢字かな交じり文 👩‍👩‍👧 🙂 שלום עולם مرحبا\u202e " + "長" * 80,
            "completion": "\x1b]52;c;aGVsbG8=\x07\x1b[31mred\x1b[0m\ttab \u200bzero\r\n"
            + "x" * 300,
        }
        write_records(folder / "data" / "train.jsonl", [odd])

        async def before(pilot: Any) -> None:
            await settled(pilot)

        assert snap_compare(opened(), terminal_size=size, run_before=before)


class TestRecords:
    async def test_counts_and_the_first_record_are_shown(self, opened: Opened) -> None:
        app = opened()
        async with app.run_test(size=(80, 24)) as pilot:
            await settled(pilot)
            shown = screen_text(app)
            assert "[train 300]" in shown
            assert "valid 40" in shown
            assert "test —" in shown
            assert '{"device": "lamp", "number": 0, "on": false}' in words(app, "#record")

    async def test_the_progress_of_the_check_is_shown(self, opened: Opened) -> None:
        app = opened()
        async with app.run_test(size=(120, 40)) as pilot:
            await settled(pilot)
            screen = place(app)
            assert screen.data is not None
            checked = screen.data.split("train")
            screen.tokens = {}
            for read in (0, 150):
                split = replace(checked, read=read, statistics=None)
                screen.data = replace(screen.data, splits=(split, *screen.data.splits[1:]))
                await pilot.pause()
            assert words(app, "#lengths") == "lengths in characters checking the records 50%"

    async def test_the_cursor_selects_the_record(self, opened: Opened) -> None:
        app = opened()
        async with app.run_test(size=(80, 24)) as pilot:
            await settled(pilot)
            await pilot.press("j", "down")
            await settled(pilot)
            assert '"number": 2' in screen_text(app)
            await pilot.press("end")
            await settled(pilot)
            assert '"number": 299' in screen_text(app)
            assert "› 300" in screen_text(app)

    async def test_left_and_right_change_the_file(self, opened: Opened) -> None:
        app = opened()
        async with app.run_test(size=(80, 24)) as pilot:
            await settled(pilot)
            await pilot.press("right")
            await settled(pilot)
            assert "[valid 40]" in screen_text(app)
            assert '"number": 300' in screen_text(app)
            await pilot.press("left", "left")
            await pilot.pause()
            assert "There is no test.jsonl" in words(app)

    async def test_changed_files_are_read_again(self, opened: Opened, folder: Path) -> None:
        app = opened()
        async with app.run_test(size=(80, 24)) as pilot:
            await settled(pilot)
            write_records(folder / "data" / "train.jsonl", records(7))
            await pilot.press("2", "1")
            await settled(pilot)
            assert "[train 7]" in screen_text(app)

    async def test_jumping_to_the_end_of_a_hundred_thousand_records(
        self, opened: Opened, folder: Path
    ) -> None:
        line = '{"prompt": "Turn on lamp %d", "completion": "on"}'
        write_records(folder / "data" / "train.jsonl", [line % n for n in range(100_000)])
        app = opened()
        async with app.run_test(size=(80, 24)) as pilot:
            while "100,000" not in screen_text(app):
                await pilot.pause(0.02)
            await pilot.press("end")
            await pilot.pause()
            assert "Turn on lamp 99999" in screen_text(app)

    async def test_control_characters_and_markup_are_shown_as_text(
        self, opened: Opened, folder: Path
    ) -> None:
        record = {"prompt": "\x1b[2Jclear [b]bold[/b]", "completion": "\x07bell"}
        write_records(folder / "data" / "train.jsonl", [record])
        app = opened()
        async with app.run_test(size=(80, 24)) as pilot:
            await settled(pilot)
            shown = screen_text(app)
            assert "␛[2Jclear [b]bold[/b]" in shown
            assert "␇bell" in shown
            assert "\x1b" not in shown


class TestFormats:
    async def test_each_record_shows_its_format(self, opened: Opened, folder: Path) -> None:
        turns = [{"from": "human", "value": "On?"}, {"from": "gpt", "value": "yes"}]
        preferred = {"prompt": "Off?", "chosen": "yes", "rejected": "no"}
        write_records(folder / "data" / "train.jsonl", [{"conversations": turns}, preferred])
        app = opened()
        async with app.run_test(size=(120, 40)) as pilot:
            await settled(pilot)
            assert "ShareGPT ─╯" in screen_text(app)
            await pilot.press("down")
            await settled(pilot)
            assert "preference, chosen side ─╯" in screen_text(app)

    async def test_both_answers_are_named_where_the_loss_compares_them(
        self, opened: Opened, folder: Path
    ) -> None:
        preferred = {"prompt": "Off?", "chosen": "yes", "rejected": "no"}
        write_records(folder / "data" / "train.jsonl", [preferred])
        app = opened(recipes.replace(RECIPE, "loss", "dpo"))
        async with app.run_test(size=(120, 40)) as pilot:
            await settled(pilot)
            shown = screen_text(app)
            assert "preference ─╯" in shown
            assert "chosen side" not in shown
            assert "tokens, longer of each pair" in shown
            assert "chosen" in shown
            assert "completion" not in shown

    async def test_each_record_of_several_files_shows_its_file(
        self, opened: Opened, folder: Path
    ) -> None:
        write_records(folder / "more" / "[b]a.jsonl", records(2))
        (folder / "more" / "b.csv").write_text("question,answer\nOn?,yes\n")
        app = opened(recipes.replace(RECIPE, "data", "more"))
        async with app.run_test(size=(120, 40)) as pilot:
            await settled(pilot)
            assert "[train 3]" in screen_text(app)
            assert "prompt/completion  [b]a.jsonl 1 ─╯" in screen_text(app)
            await pilot.press("end")
            await settled(pilot)
            assert "question/answer  b.csv 1 ─╯" in screen_text(app)


class TestViews:
    async def test_the_template_and_the_tokens_come_from_the_model(self, opened: Opened) -> None:
        app = opened()
        async with app.run_test(size=(120, 40)) as pilot:
            await settled(pilot)
            await pilot.press("m")
            await settled(pilot)
            assert "[templated]" in screen_text(app)
            assert "<|im_start|>user" in screen_text(app)
            await pilot.press("m")
            await settled(pilot)
            assert "[tokens]" in screen_text(app)
            assert "of 17 tokens" in screen_text(app)

    async def test_without_the_model_the_reason_is_shown(self, opened: Opened) -> None:
        app = opened()
        session(app).scripted.refusal = "models/x is not a model folder; config.json is missing."
        async with app.run_test(size=(120, 40)) as pilot:
            await settled(pilot)
            await pilot.press("m")
            await settled(pilot)
            assert "This view needs the model: models/x is not a model folder" in words(app)


class TestProblems:
    async def test_enter_goes_to_the_line_of_a_problem(self, opened: Opened, folder: Path) -> None:
        write_records(folder / "data" / "train.jsonl", FAULTY)
        app = opened()
        async with app.run_test(size=(120, 40)) as pilot:
            await settled(pilot)
            shown = screen_text(app)
            assert "2 problems, 1 duplicate" in shown
            assert "line 7     the record repeats line 1" in shown
            await pilot.press("e", "down", "enter")
            await settled(pilot)
            assert "› 6 ✗" in screen_text(app)
            assert "✗ the record has no completion" in screen_text(app)

    async def test_equal_problems_are_one_line_that_leads_to_each(
        self, opened: Opened, folder: Path
    ) -> None:
        write_records(folder / "data" / "train.jsonl", [*records(4), {"a": "x"}, {"a": "y"}])
        app = opened()
        async with app.run_test(size=(120, 40)) as pilot:
            await settled(pilot)
            assert screen_text(app).count("the record has a; a record needs one of") == 1
            assert "line 5 +1  the record has a; a record needs one of" in screen_text(app)
            for line in (5, 6, 5):
                await pilot.press("e", "enter")
                await settled(pilot)
                assert f"› {line} ✗" in screen_text(app)

    async def test_records_shared_with_train_are_listed(self, opened: Opened, folder: Path) -> None:
        write_records(folder / "data" / "valid.jsonl", records(2, first=299))
        app = opened()
        async with app.run_test(size=(120, 40)) as pilot:
            await settled(pilot)
            await pilot.press("right")
            await pilot.pause()
            assert "line 1     the record is also in train" in screen_text(app)

    async def test_a_record_that_is_not_trained_says_why(
        self, opened: Opened, folder: Path
    ) -> None:
        rows = [{**each, "label": False} for each in records(2)]
        write_records(folder / "data" / "train.jsonl", [*records(3), *rows])
        app = opened()
        async with app.run_test(size=(120, 40)) as pilot:
            await settled(pilot)
            assert "2 excluded" in screen_text(app)
            await pilot.press("end")
            await settled(pilot)
            assert "! the record is labelled as a bad answer" in words(app, "#record")

    async def test_warnings_alone_are_counted_in_the_title(
        self, opened: Opened, folder: Path
    ) -> None:
        rows = [*records(5), {**records(6)[5], "reasoning": "the lamp is there"}]
        write_records(folder / "data" / "train.jsonl", rows)
        app = opened()
        async with app.run_test(size=(120, 40)) as pilot:
            await settled(pilot)
            assert words(app, "#problems").startswith("1 warning")

    async def test_warnings_of_the_recipe_are_listed(
        self, opened: Opened, folder: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        too_long = Problem("too long", "the record has 31 tokens", "shorten it").at("x", 3)
        measured = msgspec.structs.replace
        monkeypatch.setattr(
            sessions,
            "token_figures",
            lambda command: measured(token_figures(command), overlong=1, warnings=(too_long,)),
        )
        write_records(folder / "data" / "train.jsonl", records(3))
        app = opened()
        async with app.run_test(size=(120, 40)) as pilot:
            await settled(pilot)
            shown = screen_text(app)
            assert "1 too long" in shown
            assert "file       3 records are too few for a batch of 4" in shown
            await pilot.press("e", "down", "enter")
            await settled(pilot)
            assert "line 3     the record has 31 tokens; shorten it" in shown
            assert "› 3" in screen_text(app)


class TestNoData:
    async def test_a_missing_folder(self, opened: Opened, folder: Path) -> None:
        app = opened(recipes.replace(RECIPE, "data", "nowhere"))
        async with app.run_test(size=(80, 24)) as pilot:
            await settled(pilot)
            assert "set data to the folder that holds train.jsonl" in words(app)

    async def test_an_empty_file(self, opened: Opened, folder: Path) -> None:
        (folder / "data" / "train.jsonl").write_text("")
        app = opened()
        async with app.run_test(size=(80, 24)) as pilot:
            await settled(pilot)
            assert "write one JSON record per line into it" in words(app)

    async def test_a_changed_data_folder_is_read(self, opened: Opened, folder: Path) -> None:
        write_records(folder / "other" / "train.jsonl", records(5))
        app = opened(recipes.replace(RECIPE, "data", "nowhere"))
        async with app.run_test(size=(80, 24)) as pilot:
            await settled(pilot)
            place(app).change_recipe(recipes.replace(RECIPE, "data", "other"))
            await pilot.pause()
            await settled(pilot)
            assert "[train 5]" in screen_text(app)
            assert place(app).data is not None


class TestSearch:
    async def test_it_goes_forward_back_and_around(self, opened: Opened) -> None:
        app = opened()
        async with app.run_test(size=(120, 40)) as pilot:
            await settled(pilot)
            await pilot.press("slash", *"lamp 29", "enter")
            await settled(pilot, "search")
            assert "/lamp 29 1 of 11" in screen_text(app)
            assert "›  30 " in screen_text(app)
            await pilot.press("n")
            await settled(pilot)
            assert "/lamp 29 2 of 11" in screen_text(app)
            assert '"number": 290' in screen_text(app)
            await pilot.press("N", "N")
            await settled(pilot)
            assert "11 of 11" in screen_text(app)
            await pilot.press("escape")
            await settled(pilot)
            assert "/lamp 29" not in screen_text(app)

    async def test_keys_pressed_before_the_first_match_all_count(
        self, opened: Opened, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        may_answer, search = asyncio.Event(), Findings.search

        async def late(findings: Findings) -> AsyncIterator[None]:
            await may_answer.wait()
            async for _ in search(findings):
                yield

        monkeypatch.setattr(Findings, "search", late)
        app = opened()
        async with app.run_test(size=(120, 40)) as pilot:
            await settled(pilot)
            await pilot.press("slash", *"lamp 29", "enter", "n", "n", "n", "N")
            may_answer.set()
            await settled(pilot, "search")
            assert "/lamp 29 3 of 11" in screen_text(app)

    async def test_an_invalid_expression_is_an_error(self, opened: Opened) -> None:
        app = opened()
        async with app.run_test(size=(120, 40), notifications=True) as pilot:
            await settled(pilot)
            await pilot.press("slash", "ctrl+r", "(", "enter")
            await settled(pilot, "search")
            assert "invalid regular expression" in words(app)

    async def test_escape_closes_the_input_line(self, opened: Opened) -> None:
        app = opened()
        async with app.run_test(size=(120, 40)) as pilot:
            await settled(pilot)
            await pilot.press("slash", "j", "escape", "j")
            await settled(pilot)
            assert "›   2 " in screen_text(app)


class TestOpening:
    async def test_other_data_starts_at_its_first_record(
        self, opened: Opened, folder: Path
    ) -> None:
        write_records(folder / "other" / "train.jsonl", records(5))
        app = opened()
        async with app.run_test(size=(120, 40)) as pilot:
            await settled(pilot)
            await pilot.press("end", "o", *"other", "enter")
            await settled(pilot)
            assert "[train 5]" in screen_text(app)
            assert "› 1" in screen_text(app)
            assert place(app).recipe.data == "other"


class TestHub:
    async def test_a_hub_dataset_is_downloaded_and_shown(
        self, opened: Opened, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def fetched(name: str) -> Path:
            folder = hub.folder_of(name)
            write_records(folder / "train.jsonl", records(5))
            return folder

        monkeypatch.setattr(hub, "fetched", fetched)
        app = opened()
        async with app.run_test(size=(120, 40)) as pilot:
            await settled(pilot)
            await pilot.press("o", *(["backspace"] * 4), *"some/lamps")
            await pilot.pause()
            assert "Regex" not in words(app, "KeyBar")
            await pilot.press("enter")
            await settled(pilot)
            assert "[train 5]" in screen_text(app)
            assert place(app).recipe.data == "some/lamps"

    async def test_a_failed_download_is_shown(
        self, opened: Opened, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def fetched(name: str) -> Path:
            raise DataError(f"{name}: the dataset can't be downloaded (no network).")

        monkeypatch.setattr(hub, "fetched", fetched)
        app = opened(recipes.replace(RECIPE, "data", "some/lamps"))
        async with app.run_test(size=(120, 40)) as pilot:
            await settled(pilot)
            assert "the dataset can't be downloaded (no network)" in words(app)


class TestStatistics:
    async def test_a_search_shows_its_matches(self, opened: Opened) -> None:
        app = opened()
        async with app.run_test(size=(120, 40)) as pilot:
            await settled(pilot)
            await pilot.press("s", "slash", *"lamp 7", "enter")
            await settled(pilot, "search")
            assert app.screen.query_one("#record").display
            assert "Turn on lamp 7" in words(app, "#record")
            await pilot.press("s", "n")
            await settled(pilot)
            assert "Turn on lamp 70" in words(app, "#record")

    async def test_token_figures_come_from_the_service(self, opened: Opened) -> None:
        app = opened()
        async with app.run_test(size=(120, 40)) as pilot:
            await settled(pilot)
            shown = screen_text(app)
            assert "lengths in tokens" in shown
            assert "tokens   9,000, longest 31" in shown
            assert "75 steps per epoch, 10% padding" in shown
            await pilot.press("s")
            await pilot.pause()
            assert "formats" in screen_text(app)

    async def test_the_recipe_screen_knows_the_longest_record(self, opened: Opened) -> None:
        app = opened()
        async with app.run_test(size=(120, 40)) as pilot:
            await settled(pilot)
            await pilot.press("2")
            await settled(pilot)
            assert place(app).tokens["train"].longest == 31
