"""Foreign text can't command the terminal."""

from __future__ import annotations

import sys
import unicodedata

from mlxft.data.printable import printable, printable_line


class TestPrintable:
    def test_an_escape_sequence_is_seen_and_not_obeyed(self) -> None:
        assert printable("\x1b]52;c;aGk=\x07") == "␛]52;c;aGk=␇"
        assert printable("\x9b31m") == "‹U+009B›31m"

    def test_text_that_runs_backwards_is_seen(self) -> None:
        assert printable("a\u202eb\u2066c") == "a‹U+202E›b‹U+2066›c"

    def test_plain_text_of_any_script_stays(self) -> None:
        text = "Grüße, 日本語, عربى, 👩‍👩‍👧, ❤️"
        assert printable(text) == text

    def test_newlines_stay_and_tabs_become_spaces(self) -> None:
        assert printable("a\r\nb\tc\rd") == "a\nb    c␍d"
        assert printable_line("a\r\nb\tc") == "a↵b c"

    def test_no_control_character_of_unicode_is_left(self) -> None:
        every = "".join(map(chr, range(sys.maxunicode + 1)))
        left = {char for char in printable(every) if unicodedata.category(char) in ("Cc", "Cs")}
        assert left == {"\n"}
        bidirectional = {
            char
            for char in printable(every)
            if unicodedata.bidirectional(char)
            in ("LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI")
        }
        assert not bidirectional

    def test_half_a_surrogate_pair_can_be_encoded_afterwards(self) -> None:
        assert printable("\ud800").encode() == "‹U+D800›".encode()
