"""Plain records are read as the general way reads them."""

from __future__ import annotations

import json
import random

import pytest

from mlxft.data.formats import identity
from mlxft.data.plain_records import READERS
from mlxft.data.record_figures import FigureCounter
from mlxft.data.validation import read_line

PAIR = b'{"prompt": "What is it?", "completion": "A word, and\\n more"}\n'
CONVERSATION = json.dumps(
    {
        "messages": [
            {"role": "system", "content": ""},
            {"role": "user", "content": "What is \u00fc\U0001f600?"},
            {"role": "assistant", "content": "[a letter]"},
        ]
    }
).encode()

TOKENS = (
    b'"prompt": "",',
    b'"completion":"x",',
    b'"role": "tool", ',
    b'"weight": 0, ',
    b'{"role": "user", "content": "y"},',
    b"null",
    b"[",
    b"{",
    b"}",
    b'"',
    b'\\"',
    b"\\\\",
    b"<image>",
    b"</image>",
    b" ",
    b"\\u200b",
    b"\\ud800",
    b"\xef\xbb\xbf",
    b"\xff",
    b"\xc2\xa0",
)


def varied(raw: bytes, chance: random.Random) -> bytes:
    """The line with something inserted, taken out or replaced."""
    start = chance.randrange(len(raw))
    end = start + chance.choice((0, 0, 1, 5, 14))
    return raw[:start] + chance.choice((b"", *TOKENS)) + raw[end:]


@pytest.mark.parametrize("line", [PAIR, CONVERSATION], ids=["pair", "conversation"])
def test_a_line_is_taken_for_plain_only_if_nothing_else_is_to_be_said_of_it(line: bytes) -> None:
    chance, plain = random.Random(0), 0
    (name,) = (name for name, read in READERS.items() if read(line))
    for _ in range(4000):
        raw = varied(line, chance)
        if (record := READERS[name](raw)) is None:
            continue
        plain += 1
        found = read_line(raw, "f", 2)
        assert (found.faults, found.warnings, found.excluded) == ((), (), None), raw
        assert found.fields is not None
        assert (name, record) == (found.format, identity(found.fields))
        both = FigureCounter(), FigureCounter()
        both[0].add(found)
        both[1].add_plain(2, name, record)
        assert both[0].figures() == both[1].figures()
    assert 100 < plain < 4000
