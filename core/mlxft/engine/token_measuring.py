"""Counts a file's tokens while the model service has nothing else to do."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Final

from mlxft.engine.mailbox import Call
from mlxft.engine.protocol import MeasureTokens, TokensMeasured

if TYPE_CHECKING:
    from mlxft.compute.generation.chat_model import ChatModel
    from mlxft.data.token_figures import TokenFigures
    from mlxft.data.token_statistics import TokenLengths

REPORT_SECONDS: Final = 0.5
"""Time between two progress reports."""


class TokenMeasuring:
    """One file being measured, step by step; earlier measurements come from the cache."""

    def __init__(self, call: Call, model: ChatModel) -> None:
        assert isinstance(call.command, MeasureTokens)
        from mlxft.compute.token_lengths import measure
        from mlxft.data.model_limits import limits_of
        from mlxft.data.token_cache import kept_lengths

        self.call = call
        self._path, self._recipe = Path(call.command.path), call.command.recipe
        self._model = model.path
        self._limits = limits_of(model.path)
        self._figures: TokenFigures | None = None
        self._reported = 0.0
        kept = kept_lengths(self._path, self._model, self._recipe)
        self._steps: Iterator[TokenLengths | int] = (
            iter((kept,))
            if kept
            else measure(
                model.tokenizer_of(None, self._recipe.template),
                self._path,
                self._recipe,
                whole=call.command.whole,
                vocabulary=self._limits.vocabulary,
            )
        )

    def step(self) -> bool:
        """Do one step; False once there is none left and the call is done."""
        found = next(self._steps, None)
        if found is None:
            self.call.done()
            return False
        if isinstance(found, int):
            self._report_progress(found)
        else:
            self._take(found)
        return True

    def _take(self, found: TokenLengths) -> None:
        from mlxft.data.token_cache import keep_figures, keep_lengths
        from mlxft.data.token_statistics import token_figures

        self._figures = token_figures(found, self._recipe, str(self._path), self._limits.positions)
        if found.whole:
            keep_lengths(self._path, self._model, self._recipe, found)
            keep_figures(self._path, self._recipe, self._figures)
        self._report(1.0 if found.whole else 0.0)

    def _report_progress(self, lines: int) -> None:
        if self._figures and time.monotonic() - self._reported >= REPORT_SECONDS:
            self._report(min(1.0, lines / max(1, self._figures.records)))

    def _report(self, share: float) -> None:
        assert self._figures is not None
        self._reported = time.monotonic()
        self.call.send(TokensMeasured(id=self.call.id, figures=self._figures, share=share))
