"""Every recipe parameter as text for ``train --help``."""

from __future__ import annotations

import shutil
import textwrap

from mlxft.recipe import GROUPS, PARAMETERS


def parameter_help() -> str:
    """Key, allowed values, default and effect of each parameter, by group."""
    width = min(100, shutil.get_terminal_size().columns)
    lines = ["recipe parameters, also for --set:"]
    for group in GROUPS:
        lines += ["", f"{group}:"]
        for parameter in PARAMETERS.values():
            if parameter.declared.group == group:
                lines += textwrap.wrap(
                    f"{parameter.key} ({parameter.short_rule}; {_shown(parameter.default)})",
                    width,
                    initial_indent=" " * 2,
                    subsequent_indent=" " * 4,
                )
                lines += textwrap.wrap(
                    f"{parameter.declared.help} {parameter.declared.effect.sentence}",
                    width,
                    initial_indent=" " * 6,
                    subsequent_indent=" " * 6,
                )
    return "\n".join(lines) + "\n"


def _shown(default: object) -> str:
    if isinstance(default, bool):
        return f"default {str(default).lower()}"
    return "empty by default" if default in (None, "", (), {}) else f"default {default}"
