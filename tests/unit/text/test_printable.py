"""Untrusted text can't control the terminal."""

from __future__ import annotations

import sys
import unicodedata

from mlxft.text.printable import meant, printable, printable_line


class TestPrintable:
    def test_escape_sequences_are_shown_as_symbols(self) -> None:
        assert printable("\x1b]52;c;aGk=\x07") == "␛]52;c;aGk=␇"
        assert printable("\x9b31m") == "‹U+009B›31m"

    def test_bidi_controls_are_shown(self) -> None:
        assert printable("a\u202eb\u2066c") == "a‹U+202E›b‹U+2066›c"

    def test_plain_text_of_any_script_is_unchanged(self) -> None:
        text = "Grüße, 日本語, عربى, 👩‍👩‍👧, ❤️"
        assert printable(text) == text

    def test_newlines_are_kept_and_tabs_become_spaces(self) -> None:
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

    def test_half_a_surrogate_pair_can_be_encoded(self) -> None:
        assert printable("\ud800").encode() == "‹U+D800›".encode()


class TestMeant:
    TEXT = "if x:\n\treturn 1\r\n\u200fend \t."

    def test_an_unedited_text_is_the_original(self) -> None:
        assert meant(self.TEXT, printable(self.TEXT)) == self.TEXT

    def test_the_original_is_kept_around_an_edit(self) -> None:
        for old, new in (("1", "22"), ("if", "while"), ("end", "fin"), (".", "!")):
            written = printable(self.TEXT).replace(old, new)
            assert meant(self.TEXT, written) == self.TEXT.replace(old, new), old

    def test_the_original_is_kept_between_edits(self) -> None:
        written = printable(self.TEXT).replace("if", "while").replace("end", "fin")
        assert meant(self.TEXT, written) == "while x:\n\treturn 1\r\n\u200ffin \t."

    def test_a_partly_deleted_symbol_is_text(self) -> None:
        assert meant("a\u200fb", "a‹U+200b") == "a‹U+200b"
        assert meant("\ta", "  a") == "  a"

    def test_a_new_text_is_taken_as_typed(self) -> None:
        assert meant("a\tb", "") == ""
        assert meant("", "new") == "new"
        assert meant("a\tb", "Grüße") == "Grüße"
