"""Markdown is laid out in lines, whatever the text."""

from __future__ import annotations

import unicodedata
from itertools import accumulate

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rich.cells import cell_len

from mlxft_tui.text.markdown_blocks import MOST_PARSED, sanitized
from mlxft_tui.text.markdown_lines import MarkdownLines, column_widths

CHARACTERS = "*_`~#>-+|[](){}!\\<>&;:.=1 \n\t\r"
HOSTILE = "\x00\x07\x1b\x7f\x85\x9b\u202e\u2066\u200d\ufe0f\u0301\ufeff👩🏽🇩🇪कשم漢"
MARKDOWN = st.lists(
    st.one_of(
        st.text(CHARACTERS, max_size=12),
        st.text(HOSTILE + "ab", max_size=6),
        st.sampled_from(
            [
                "\n```python\n",
                "\n~~~\n",
                "\n| a | b |\n|---|:-:|\n",
                "\n| 1 | 2 | 3 |",
                "\n1. ",
                "\n   - ",
                "\n> ",
                "\n\n",
                "\n# ",
                "&#27;[2J",
                "&#x202e;",
                "[x](http://a.b)",
                "**b**",
                "words of a text ",
                "\n[a]: b\n",
            ]
        ),
    ),
    max_size=30,
).map("".join)


def lines_of(text: str, width: int = 40) -> list[str]:
    return [line.plain for line in MarkdownLines(width).of(sanitized(text))]


class TestBlocks:
    def test_a_paragraph_is_wrapped_between_words(self) -> None:
        assert lines_of("one **two** three", 8) == ["one two", "three"]

    def test_line_breaks_are_kept(self) -> None:
        assert lines_of("one\ntwo") == ["one", "two"]

    def test_blank_lines_are_kept_and_none_added(self) -> None:
        assert lines_of("# A\ntext\n\n\ntext\n- a\n- b") == [
            "A",
            "text",
            "",
            "text",
            "• a",
            "• b",
        ]

    def test_lists_keep_their_numbers_and_their_depth(self) -> None:
        assert lines_of("9. a\n10. b\n    - c\n\n      d") == [
            "9. a",
            "10. b",
            "    • c",
            "",
            "      d",
        ]

    def test_each_line_of_a_quote_has_a_bar(self) -> None:
        assert lines_of("> a\n> - b\n>\n> c") == ["▎ a", "▎ • b", "▎", "▎ c"]

    def test_code_keeps_its_indentation(self) -> None:
        assert lines_of("```py\nif x:\n    y\n```") == ["─── py", "if x:", "    y", "───"]

    def test_unfinished_code_lacks_the_bottom_rule(self) -> None:
        assert lines_of("```\nx *y*") == ["───", "x *y*"]

    def test_a_table_has_columns(self) -> None:
        assert lines_of("|a|b|\n|-|-:|\n|1|22|\n|333|4|") == [
            "a   │  b",
            "────┼───",
            "1   │ 22",
            "333 │  4",
        ]

    def test_a_wide_table_narrows_its_widest_column(self) -> None:
        assert lines_of("|a|b|\n|-|-|\n|1|one two three|", 12) == [
            "a │ b       ",
            "──┼─────────",
            "1 │ one two ",
            "  │ three   ",
        ]

    def test_a_table_too_wide_for_columns_is_plain_text(self) -> None:
        row = "|a" * 30 + "|"
        assert "".join(lines_of(row + "\n" + "|-" * 30 + "|\n" + row, 20)).startswith("|a|a")

    def test_a_link_shows_its_target_unless_its_text_does(self) -> None:
        assert lines_of("[a](http://b.c) http://d.e") == ["a (http://b.c) http://d.e"]

    def test_html_and_link_definitions_are_text(self) -> None:
        assert lines_of("<b>x</b>\n\n[a]: b") == ["<b>x</b>", "", "[a]: b"]


class TestColumnWidths:
    def test_are_natural_if_they_fit(self) -> None:
        assert column_widths([3, 5], 8) == [3, 5]

    def test_narrow_the_widest_columns(self) -> None:
        assert column_widths([3, 50, 60], 23) == [3, 10, 10]

    def test_are_empty_if_nothing_fits(self) -> None:
        assert column_widths([9] * 9, 20) == []


class TestHostileText:
    def test_entities_do_not_become_control_characters(self) -> None:
        assert "\x1b" not in "".join(lines_of("&#27;[2J `&#27;` &#x9b;"))

    def test_merging_characters_are_kept_apart(self) -> None:
        (line,) = lines_of("👩\u200d👩\u200d👧 ❤\ufe0f")
        assert cell_len(line) == sum(cell_len(each) for each in line)

    @pytest.mark.parametrize("text", [">" * 10_000 + " deep", "- " * 10_000 + "deep"])
    def test_deep_nesting_is_plain_text(self, text: str) -> None:
        assert "".join(lines_of(text)).endswith("deep")

    def test_a_block_longer_than_the_limit_is_complete(self) -> None:
        lines = lines_of("**a** " * MOST_PARSED)
        assert "**a**" in lines[0]
        assert "".join(lines).count("a") == MOST_PARSED

    def test_long_code_is_code_to_its_end(self) -> None:
        lines = lines_of("```\n" + "x = *1*\n" * MOST_PARSED + "```\n\n**end**")
        assert lines[0] == lines[-3] == "───"
        assert lines[-1] == "end"

    @settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])
    @given(text=MARKDOWN, width=st.integers(1, 60))
    def test_no_line_is_too_wide_or_has_control_characters(self, text: str, width: int) -> None:
        for line in MarkdownLines(width).of(sanitized(text)):
            assert line.cell_length == cell_len(line.plain) <= width
            assert not any(unicodedata.category(each) in ("Cc", "Cs") for each in line.plain)


class TestGrowing:
    @settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])
    @given(pieces=st.lists(MARKDOWN, max_size=6), width=st.integers(1, 60))
    def test_no_step_of_growing_text_fails(self, pieces: list[str], width: int) -> None:
        growing = MarkdownLines(width)
        for text in accumulate(pieces):
            for line in growing.of(sanitized(text)):
                assert line.cell_length <= width

    def test_text_in_pieces_looks_like_the_whole(self) -> None:
        text = (
            "# A title\n\nSome **bold** words\non two lines.\n\n- one\n- two\n  - three\n\n"
            "1. first\n\n2. second\n\n```python\ndef f(x):\n\n    return x\n```\n\n"
            "> said\n> twice\n\n"
            "| a | b |\n|---|---|\n| 1 | 2 |\n\nThe end.\n"
        ) * 3
        growing = MarkdownLines(30)
        for end in range(len(text)):
            growing.of(text[:end])
        assert [line.plain for line in growing.of(text)] == lines_of(text, 30)

    def test_a_finished_block_is_not_laid_out_again(self) -> None:
        growing = MarkdownLines(30)
        before = growing.of("one\n\ntwo\n\nthree")
        after = growing.of("one\n\ntwo\n\nthree and more")
        assert after[0] is before[0]

    def test_another_text_replaces_the_first(self) -> None:
        growing = MarkdownLines(30)
        growing.of("one\n\ntwo\n\nthree\n\nfour")
        assert [line.plain for line in growing.of("other")] == ["other"]


class TestSanitized:
    def test_characters_have_the_same_width_on_every_terminal(self) -> None:
        assert sanitized("👍🏽 👩\u200d👧 🏳\ufe0f 🇩🇪") == "👍 👩👧 🏳 DE"
