"""Tokenize records and conversations with a model's tokenizer and chat template."""

from mlxft.compute.tokenization.dates import writes_date
from mlxft.compute.tokenization.records import TokenizedRecord, tokenize
from mlxft.compute.tokenization.rendering import TemplateError, render, render_prompt, render_text
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
    "first_line",
    "load_tokenizer",
    "render",
    "render_prompt",
    "render_text",
    "token_view",
    "tokenize",
    "writes_date",
]
