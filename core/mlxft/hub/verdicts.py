"""A listed model in words: its figures, and whether it can be trained here."""

from __future__ import annotations

from typing import Final

from mlxft.hub.listed import ListedModel
from mlxft.text import figures
from mlxft.text.printable import printable_line

VERDICTS: Final = {
    "fits": "fits",
    "may_fit": "may fit",
    "tight": "tight",
    "wont_fit": "won't fit",
    "unknown": "unknown",
}


def parameters(count: int | None) -> str:
    """A number of parameters as models are named: 21K, 135M, 3.2B."""
    if count is None:
        return figures.NONE
    if count < 999_500:
        return f"{count / 1e3:.0f}K"
    if count < 999_500_000:
        return f"{count / 1e6:.0f}M"
    return f"{count / 1e9:.1f}B" if count < 99.95e9 else f"{count / 1e9:.0f}B"


def context(tokens: int | None) -> str:
    """A context length as it is named: 512, 8k, 128k."""
    if tokens is None:
        return figures.NONE
    return f"{round(tokens / 1024)}k" if tokens >= 1024 else str(tokens)


def facts(model: ListedModel) -> str:
    """Size, parameters, quantization and context in columns."""
    size = figures.size(model.size) if model.size is not None else figures.NONE
    return (
        f"{size:>8}  {parameters(model.parameters):>5}  "
        f"{printable_line(model.quantization)[:8] or figures.NONE:<8}  {context(model.context):>5}"
    )


def outcome(model: ListedModel) -> str:
    """Whether a run with the present recipe may work, and what it needs; or what hinders it."""
    if model.hindrance:
        return printable_line(model.hindrance)
    needs = f", {figures.gigabytes(model.memory)} GB" if model.memory is not None else ""
    gated = ", gated" if model.locked == "gated" else ""
    return f"{VERDICTS[model.verdict]}{needs}{gated}"
