"""Tokenize records and conversations with a model's tokenizer and chat template."""

from mlxft.compute.tokenization.dates import writes_date
from mlxft.compute.tokenization.records import TokenizedRecord, tokenize
from mlxft.compute.tokenization.rendering import TemplateError, render, render_prompt, render_text
from mlxft.compute.tokenization.templates import (
    dated,
    kept_template,
    of_adapter,
    of_run,
    template_text,
    with_template,
)
from mlxft.compute.tokenization.tokenizers import (
    Tokenizer,
    check_vocabulary,
    first_line,
    load_tokenizer,
)
from mlxft.compute.tokenization.views import token_view

__all__ = [
    "TemplateError",
    "TokenizedRecord",
    "Tokenizer",
    "check_vocabulary",
    "dated",
    "first_line",
    "kept_template",
    "load_tokenizer",
    "of_adapter",
    "of_run",
    "render",
    "render_prompt",
    "render_text",
    "template_text",
    "token_view",
    "tokenize",
    "with_template",
    "writes_date",
]
