"""A tokenizer with another chat template than its model's, or with variables of it set."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Final

from jinja2 import TemplateError as JinjaError
from jinja2 import TemplateSyntaxError
from jinja2.meta import find_undeclared_variables
from transformers.utils.chat_template_utils import _compile_jinja_template

from mlxft.compute.tokenization.dates import date_macro, writes_date
from mlxft.compute.tokenization.tokenizers import Tokenizer
from mlxft.errors import ModelError, RecipeError, StorageError
from mlxft.recipe.chat_template import (
    BUILT_IN,
    FILE_NAME,
    GIVEN,
    ChatTemplate,
    read_template,
    with_arguments,
)
from mlxft.storage.atomic_files import write_atomically

_CHATML: Final = (
    "{%- for message in messages %}"
    "{{- '<|im_start|>' + message.role + '\n' + message.content + '<|im_end|>\n' }}"
    "{%- endfor %}"
    "{%- if add_generation_prompt %}{{- '<|im_start|>assistant\n' }}{%- endif %}"
)


def with_template(tokenizer: Tokenizer, chosen: ChatTemplate | None) -> Tokenizer:
    """The tokenizer as it is, or a copy that writes conversations by the chosen template.

    Raises `RecipeError` for a template that can't be read or isn't one, `ModelError` for a model
    that has no template to set variables of.
    """
    if chosen is None or chosen == ChatTemplate():
        return tokenizer
    text = _text(tokenizer, chosen)
    _check_syntax(text, chosen)
    _check_variables(text, chosen)
    return _with(tokenizer, with_arguments(text, chosen.arguments))


def dated(tokenizer: Tokenizer, date: datetime) -> Tokenizer:
    """The tokenizer, or a copy whose chat template writes this date instead of the current one."""
    if not writes_date(tokenizer):
        return tokenizer
    template, macro = tokenizer.chat_template, date_macro(date)
    if isinstance(template, Mapping):
        return _with(tokenizer, {name: macro + each for name, each in template.items()})
    return _with(tokenizer, macro + template)


def _with(tokenizer: Tokenizer, template: str | dict[str, str]) -> Tokenizer:
    """A copy of the tokenizer that writes conversations by this template."""
    made = copy.copy(tokenizer)
    made._tokenizer = copy.copy(tokenizer._tokenizer)
    made._chat_template = None  # A function of mlx_lm that some models have in its place.
    made.has_chat_template = True
    made.chat_template = template
    return made


def kept_template(adapter: Path) -> str | None:
    """The template that an adapter was trained with, if it has one of its own.

    transformers saves it under the same name beside PEFT's adapters. Raises `RecipeError`.
    """
    folder = adapter if adapter.is_dir() else adapter.parent
    places = [folder, *([folder.parent.parent] if folder.parent.name == "checkpoints" else [])]
    found = (place / FILE_NAME for place in places)
    file = next((each for each in found if each.is_file()), None)
    return None if file is None else read_template(file)


def of_adapter(tokenizer: Tokenizer, adapter: Path) -> Tokenizer:
    """The tokenizer that an adapter's conversations are written with. Raises `RecipeError`."""
    text = kept_template(adapter)
    return tokenizer if text is None else _with(tokenizer, text)


def of_run(tokenizer: Tokenizer, chosen: ChatTemplate, folder: Path) -> Tokenizer:
    """The tokenizer of a run in this folder, where its template is kept for resumes and answers.

    Raises `RecipeError`, `ModelError` and `StorageError`.
    """
    if chosen == ChatTemplate():
        return tokenizer
    file = folder / FILE_NAME
    if not file.is_file():
        made = with_template(tokenizer, chosen)
        try:
            write_atomically(file, made.chat_template.encode())
        except OSError as error:
            raise StorageError(
                f"{file}: the chat template can't be kept ({error.strerror}); free disk space or "
                "check the folder's permissions."
            ) from None
    return _with(tokenizer, read_template(file))


def template_text(tokenizer: Tokenizer) -> str | None:
    """A tokenizer's template as one text; None without any, or for one that is no text.

    Some models have one for conversations with tools and one for others.
    """
    template = tokenizer.chat_template if tokenizer.has_chat_template else None
    if isinstance(template, Mapping):
        usual = template.get("default")
        with_tools = template.get("tool_use")
        if usual is None or with_tools is None:
            return usual or with_tools
        return f"{{% if tools %}}\n{with_tools}{{% else %}}\n{usual}{{% endif %}}"
    return template if isinstance(template, str) and tokenizer._chat_template is None else None


def _text(tokenizer: Tokenizer, chosen: ChatTemplate) -> str:
    """The text of the chosen template."""
    if chosen.template is None:
        own = template_text(tokenizer)
        if own is None:
            raise ModelError(
                "chat_template_args has variables of a chat template, and this model has none; "
                f"name one with chat_template, as {BUILT_IN}."
            )
        return own
    named = tokenizer.chat_template
    if isinstance(named, Mapping) and chosen.template in named:
        return str(named[chosen.template])
    if chosen.file is None:
        return _CHATML
    return read_template(chosen.file)


def _check_syntax(text: str, chosen: ChatTemplate) -> None:
    """Raise `RecipeError` for a text that is no template."""
    place = f"chat_template {chosen.template}" if chosen.template else "The chat template"
    try:
        _compile_jinja_template(text)
    except TemplateSyntaxError as error:
        raise RecipeError(
            f"{place} line {error.lineno}: this is not valid Jinja ({error.message}); correct it "
            "or choose another."
        ) from None
    except (JinjaError, SyntaxError) as error:
        raise RecipeError(f"{place}: this is not valid Jinja ({error}); choose another.") from None


def _check_variables(text: str, chosen: ChatTemplate) -> None:
    """Raise `RecipeError` for a variable that the template doesn't read."""
    environment = _compile_jinja_template(text).environment
    read = find_undeclared_variables(environment.parse(text))
    for name in chosen.arguments:
        if name not in read:
            settable = ", ".join(sorted(read - GIVEN - environment.globals.keys()))
            raise RecipeError(
                f"chat_template_args has {name}, which the chat template doesn't read; remove it, "
                f"or correct its name (read are {settable or 'none'})."
            )
