"""Thinking is separated from the answer."""

from __future__ import annotations

import pytest

from mlxft.chat.thinking import SplitAnswer, split_thinking


class TestSplitThinking:
    @pytest.mark.parametrize(
        ("answer", "expected"),
        [
            ("Yes.", SplitAnswer("", "Yes.")),
            ("<think>hm</think>\n\nYes.", SplitAnswer("hm", "Yes.")),
            ("\n<thinking>\nhm\n</thinking>Yes.", SplitAnswer("hm", "Yes.")),
            ("<think>\nhm", SplitAnswer("hm", "", is_thinking=True)),
            ("begun by the template</think>Yes.", SplitAnswer("begun by the template", "Yes.")),
            (
                "Write <think> and </think> in code.",
                SplitAnswer("", "Write <think> and </think> in code."),
            ),
            ("", SplitAnswer("", "")),
        ],
    )
    def test_an_answer_is_split(self, answer: str, expected: SplitAnswer) -> None:
        assert split_thinking(answer) == expected
