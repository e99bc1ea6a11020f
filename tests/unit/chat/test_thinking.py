"""Thoughts apart from what is said."""

from __future__ import annotations

import pytest

from mlxft.chat.thinking import Said, parted


class TestParted:
    @pytest.mark.parametrize(
        ("answer", "said"),
        [
            ("Yes.", Said("", "Yes.")),
            ("<think>hm</think>\n\nYes.", Said("hm", "Yes.")),
            ("\n<thinking>\nhm\n</thinking>Yes.", Said("hm", "Yes.")),
            ("<think>\nhm", Said("hm", "", thinks=True)),
            ("begun by the template</think>Yes.", Said("begun by the template", "Yes.")),
            (
                "Write <think> and </think> in code.",
                Said("", "Write <think> and </think> in code."),
            ),
            ("", Said("", "")),
        ],
    )
    def test_an_answer_in_two_parts(self, answer: str, said: Said) -> None:
        assert parted(answer) == said
