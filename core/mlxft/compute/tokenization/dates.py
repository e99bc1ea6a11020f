"""Chat templates that write the current date are given a fixed one."""

from __future__ import annotations

import json
from datetime import datetime
from typing import Any, Final

_DIRECTIVES: Final = "aAbBcdDeFgGhHIjklmMnpPrRsStTuUVwWxXyYzZ"
"""Letters that strftime replaces after a percent sign."""


def date_macro(date: datetime) -> str:
    """A Jinja macro that formats this date as `strftime_now` does the current one.

    transformers offers no way to pass a date, so the macro takes the function's place.
    """
    written = [("%%", "\0")]
    for letter in _DIRECTIVES:
        written += [(f"%-{letter}", date.strftime(f"%-{letter}"))]
        written += [(f"%{letter}", date.strftime(f"%{letter}"))]
    calls = (f".replace({json.dumps(was)}, {json.dumps(now)})" for was, now in written)
    made = "format" + "".join(calls) + '.replace("\\u0000", "%")'
    # The plus sign keeps a line end with which the template begins.
    return "{%- macro strftime_now(format) -%}{{ " + made + " }}{%- endmacro +%}"


def writes_date(tokenizer: Any) -> bool:
    """Whether the chat template writes the current date."""
    return bool(tokenizer.has_chat_template) and "strftime_now" in str(tokenizer.chat_template)
