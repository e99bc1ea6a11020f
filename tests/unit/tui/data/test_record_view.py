"""The views of a record never emit control characters."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from mlxft.data.token_view import TokenPiece, TokenView
from mlxft.data.validation import read_line
from mlxft_tui.data.record_view import raw_content, templated_content, text_content, tokens_content

CONTROLS = {*map(chr, range(32)), *map(chr, range(0x7F, 0xA0)), *"\u202e\u2066"} - {"\n"}
ODD = st.text(st.sampled_from(["\x1b", "\x07", "\x9b", "\x9d", "\u202e", "\u2066", *"]52;c[a"]))
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | ODD,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(ODD, inner, max_size=4),
    max_leaves=12,
)
FIELDS = st.dictionaries(
    st.sampled_from(["prompt", "completion", "messages", "text", "conversations", "tools"]) | ODD,
    JSON,
    max_size=4,
)
PIECES = st.lists(
    st.builds(
        TokenPiece,
        id=st.integers(0, 99),
        text=ODD,
        trained=st.booleans(),
        kept=st.booleans(),
        special=st.booleans(),
        row=st.integers(0, 2),
        weight=st.sampled_from([1.0, 0.25]),
    )
)


class TestWeights:
    def test_tokens_are_marked_where_another_weight_begins(self) -> None:
        weights = {"ask ": 0.0, "a ": 1.0, "b ": 0.5, "c ": 0.5, "d ": 2.0, "e ": 1.0}
        view = TokenView(
            tuple(
                TokenPiece(id=1, text=text, trained=weight > 0, kept=True, weight=weight)
                for text, weight in weights.items()
            ),
            "",
        )
        counts, explained, _, tokens = tokens_content(view, show_ids=False).plain.split("\n")
        assert counts == " trained 5    masked 1   of 6 tokens"
        assert explained == " ×0.5: 2    ×2: 1   weights in the loss"
        assert tokens == "ask a ×0.5 b c ×2 d e "

    def test_without_weights_nothing_is_said_of_them(self) -> None:
        piece = TokenPiece(id=1, text="a", trained=True, kept=True)
        assert "×" not in tokens_content(TokenView((piece,), ""), show_ids=False).plain


class TestSafety:
    @given(raw=st.binary(max_size=300))
    def test_a_line_of_any_bytes(self, raw: bytes) -> None:
        line = read_line(raw, "train.jsonl", 1)
        for content in (text_content(line, raw), raw_content(raw)):
            assert not CONTROLS & set(content.plain)

    @given(fields=FIELDS)
    def test_a_record_of_any_fields(self, fields: dict[str, Any]) -> None:
        raw = json.dumps(fields).encode()
        content = text_content(read_line(raw, "train.jsonl", 1), raw)
        assert not CONTROLS & set(content.plain)

    @given(pieces=PIECES, templated=ODD, note=ODD, show_ids=st.booleans())
    def test_tokens_and_templates_of_any_text(
        self, pieces: list[TokenPiece], templated: str, note: str, show_ids: bool
    ) -> None:
        view = TokenView(tuple(pieces), templated, (note,))
        for content in (templated_content(view), tokens_content(view, show_ids)):
            assert not CONTROLS & set(content.plain)

    def test_a_clipboard_command_is_shown_as_text(self) -> None:
        raw = json.dumps({"text": "\x1b]52;c;aGk=\x07"}).encode()
        assert "␛]52;c;aGk=␇" in text_content(read_line(raw, "train.jsonl", 1), raw).plain
