"""Parameter values as text."""

from __future__ import annotations

from typing import Final

from mlxft.recipe.declaration import Parameter
from mlxft.text import figures
from mlxft.text.printable import printable_line

SMALL: Final = 0.01
"""Learning rates below this are written with an exponent."""


def value_text(parameter: Parameter, value: object) -> str:
    """A value as it is shown and can be typed."""
    match value:
        case None | "" | ():
            return figures.NONE
        case bool():
            return "on" if value else "off"
        case float() if parameter.declared.step == "one_two_five" and value < SMALL:
            return figures.learning_rate(value)
        case float():
            return f"{value:g}"
        case tuple():
            return ", ".join(f"{each:g}" if isinstance(each, float) else each for each in value)
        case dict():
            return ", ".join(f"{key}: {inner}" for key, inner in value.items()) or figures.NONE
        case _:
            return printable_line(str(value))
