"""Chat templates that write the current date are given a fixed one."""

from __future__ import annotations

import json
from datetime import datetime
from typing import Any, Final

_DIRECTIVES: Final = "aAbBcdDeFgGhHIjklmMnpPrRsStTuUVwWxXyYzZ"
"""Letters that strftime replaces after a percent sign."""


def write_date(tokenizer: Any, date: datetime) -> None:
    """Have the chat template write this date instead of the current one.

    transformers offers no way to pass it, so a macro of the template takes the function's place.
    """
    template = tokenizer.chat_template
    macro = _date_macro(date)
    if isinstance(template, str):
        tokenizer.chat_template = macro + template
    elif isinstance(template, dict):
        tokenizer.chat_template = {name: macro + each for name, each in template.items()}


def _date_macro(date: datetime) -> str:
    """A Jinja macro that formats this date as `strftime_now` does the current one."""
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
