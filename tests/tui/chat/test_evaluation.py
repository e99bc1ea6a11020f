"""Evaluations on the test set."""

from __future__ import annotations

from pathlib import Path

from mlxft import recipe as recipes
from mlxft.comparison.evaluations import read_evaluations
from mlxft.conversation.scores import Case, evaluation, scored
from mlxft.engine.protocol import Evaluate
from mlxft.runs.directory import RunDirectory
from support.chat_pilot import BASE_ANSWER, EXPECTED, PROMPT, chatting, with_adapter, with_examples
from support.journal import RUN_RECIPE

EVALUATION = evaluation(
    "test",
    records=1,
    tokens=10,
    losses=[("base", 2.0), ("adapter", 0.5)],
    cases=[
        Case(
            "test.jsonl line 1",
            PROMPT,
            EXPECTED,
            (scored(BASE_ANSWER, EXPECTED), scored(EXPECTED, EXPECTED)),
        )
    ],
)


class TestEvaluation:
    async def test_base_and_adapter_are_compared_on_the_test_set(self, tmp_path: Path) -> None:
        with_adapter(tmp_path)
        with_examples(tmp_path)
        async with chatting(tmp_path, "finished") as ui:
            ui.engine.evaluation = EVALUATION
            await ui.press("escape", "v")
            assert "all ›  of 2" in ui.text
            assert "test" in ui.text
            assert "valid" not in ui.text
            await ui.press("down", "left", "down", "left", "enter")
            await ui.idle()
            (asked,) = ui.engine.asked
            assert isinstance(asked, Evaluate)
            assert [name for name, _ in asked.sides] == ["base", "adapter · step 60"]
            assert (asked.split, asked.limit, asked.sampling.max_tokens) == ("test", None, 128)
            shown = ui.text
            assert "exact match +100.0 points" in shown
            assert "1 of 1 answers changed" in shown
            (run,) = (tmp_path / "adapters").iterdir()
            (kept,) = read_evaluations(RunDirectory(run))
            assert (kept.loss, kept.against, kept.split) == (0.5, "base", "test")

    async def test_keys_disabled_while_evaluating_say_why(self, tmp_path: Path) -> None:
        with_adapter(tmp_path)
        with_examples(tmp_path)
        other = recipes.replace(RUN_RECIPE, "model", "another/model")
        async with chatting(tmp_path, "finished", other) as ui:
            ui.engine.downloads = True
            await ui.press("escape", "v", "enter")
            await ui.until(lambda: "downloading 10%" in ui.text)
            await ui.pilot.press("h")
            assert ui.notice_text == "Evaluating… esc cancels"

    async def test_a_run_in_training_is_not_evaluated(self, tmp_path: Path) -> None:
        async with chatting(tmp_path) as ui:
            await ui.press("escape", "v")
            assert "Evaluating would pause training" in ui.text
