"""Which chat template a recipe names, and its variables."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import msgspec

from mlxft.errors import RecipeError
from mlxft.storage.paths import expanded
from mlxft.storage.regular_files import read_config

BUILT_IN: Final = "chatml"
"""The name of the one template that comes with this package."""

FILE_NAME: Final = "chat_template.jinja"
"""Under which transformers stores a template, and a run the one that it is trained with."""


class ChatTemplate(msgspec.Struct, frozen=True, kw_only=True):
    """What replaces a model's own chat template; nothing by default."""

    template: str | None = None
    """A file, one of the model's named templates, or the built-in one."""
    arguments: dict[str, Any] = {}

    @property
    def file(self) -> Path | None:
        """The file it would be if it is no name."""
        return expanded(self.template) if self.template and self.template != BUILT_IN else None


def read_template(file: Path) -> str:
    """A template's text. Raises `RecipeError`."""
    try:
        return read_config(file)
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not UTF-8 text"
        raise _refusal(file, reason) from None


def _refusal(file: Path, reason: str) -> RecipeError:
    return RecipeError(
        f"chat_template {file} can't be read ({reason}); name a Jinja file, one of the model's "
        f"templates, or {BUILT_IN}."
    )


def check_arguments(arguments: Mapping[str, Any]) -> None:
    """Raise `RecipeError` for what no template can be given."""
    for name, value in arguments.items():
        if not name.isidentifier() or name in GIVEN | _CONSTANTS:
            raise RecipeError(
                f"chat_template_args has {name}, which is no variable of a chat template that can "
                "be set; write it as {enable_thinking: false}."
            )
        if not _is_plain(value):
            raise RecipeError(
                f"chat_template_args has {value!r} for {name}, which is no text, number, list or "
                "mapping; put it in quotes."
            )


GIVEN: Final = frozenset({"messages", "tools", "documents", "add_generation_prompt"})
"""What the conversation decides."""

_CONSTANTS: Final = frozenset({"true", "True", "false", "False", "none", "None", "not"})
"""What is no name in Jinja."""


def _is_plain(value: Any) -> bool:
    match value:
        case Mapping():
            return all(isinstance(each, str) and _is_plain(each) for each in value) and _is_plain(
                [*value.values()]
            )
        case list():
            return all(map(_is_plain, value))
        case float():
            return math.isfinite(value)
        case str():
            return not _SURROGATE.search(value)
        case _:
            return value is None or isinstance(value, int)


_SURROGATE: Final = re.compile("[\ud800-\udfff]")
"""Half a character, which no file can hold."""


def with_arguments(template: str, arguments: Mapping[str, Any]) -> str:
    """A template whose variables have these values, whatever it is rendered with.

    So every tool that gets the template writes what was trained.
    """
    if not arguments:
        return template
    assigned = "".join(f"{{%- set {k} = {_literal(v)} %}}" for k, v in arguments.items())
    # Jinja drops the line end after a tag, as chat templates are rendered.
    return f"{assigned}\n{template}"


def _literal(value: Any) -> str:
    """A value as Jinja writes it, which is JSON but for null."""
    match value:
        case None:
            return "none"
        case Mapping():
            return "{" + ", ".join(f"{_literal(k)}: {_literal(v)}" for k, v in value.items()) + "}"
        case list():
            return "[" + ", ".join(map(_literal, value)) + "]"
        case _:
            return json.dumps(value, ensure_ascii=False)
