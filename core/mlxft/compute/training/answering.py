"""Answers from the model that is being trained, between two steps; the run is not changed."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from mlxft.compute import backend
from mlxft.compute.arrays import named_arrays
from mlxft.compute.generation import answers
from mlxft.compute.generation.answers import GenerationRequest, Listener
from mlxft.compute.generation.prompt_cache import PromptCache
from mlxft.compute.models import variants
from mlxft.compute.models.variants import Variant, Variants
from mlxft.compute.training.preparation import Prepared
from mlxft.conversation.messages import Answer, Message, Question, Sampling

SAMPLE_TOKENS: Final = 128
"""Longest answer to the sample prompt: the run waits for it."""

SHOW_SECONDS: Final = 0.5
"""Least time between two reports of a sample's text, since each is a line of the journal."""

Asked = tuple[Question, Path | None, Listener]
"""A question, the saved adapter to answer it with (None: the one in memory), and who listens."""


def answer_together(
    prepared: Prepared, asked: Sequence[Asked], *, trust_remote_code: bool
) -> tuple[Answer, ...]:
    """Answer several questions, one token of each in turn.

    The base and saved adapters are put on the weights in memory meanwhile. Raises `ModelError` for
    a bad question or an adapter that doesn't fit.
    """
    loaded = prepared.loaded
    others = any(adapter or not question.use_adapter for question, adapter, _ in asked)
    trained = named_arrays(loaded.model.trainable_parameters()) if others else {}
    together = variants.of_training(loaded, trained, prepared.path, trust_remote_code)
    with _restored(together), backend.beside_training():
        present = together.present
        parts = [
            GenerationRequest(
                question,
                _variant(together, present, question, adapter),
                back,
                PromptCache(),
                prepared.tokenizer_of(adapter)
                if adapter and question.use_adapter
                else prepared.tokenizer,
            )
            for question, adapter, back in asked
        ]
        return answers.generate_together(together, parts)


def answer_sample(
    prepared: Prepared,
    prompt: str,
    on_text: Callable[[str], None],
    is_cancelled: Callable[[], bool],
) -> Answer | None:
    """Answer the recipe's sample prompt; None where it was cancelled. Raises `ModelError`.

    `on_text` gets the text so far, as often as a reader can follow.
    """
    question = Question((Message("user", prompt),), Sampling(max_tokens=SAMPLE_TOKENS))
    shown = _TextSoFar(on_text)
    listener = Listener(shown.add, is_cancelled)
    with backend.beside_training():
        answer = answers.generate(prepared.loaded, prepared.tokenizer, question, listener)
    return None if answer.finish_reason == "cancelled" else answer


class _TextSoFar:
    """Passes on a growing text, the first piece at once and the rest in intervals."""

    def __init__(self, on_text: Callable[[str], None]) -> None:
        self._on_text = on_text
        self._text = ""
        self._shown_at = -math.inf

    def add(self, piece: str) -> None:
        self._text += piece
        now = time.monotonic()
        if now - self._shown_at >= SHOW_SECONDS:
            self._shown_at = now
            self._on_text(self._text)


def _variant(
    together: Variants, present: Variant, question: Question, adapter: Path | None
) -> Variant:
    """The model that answers: the base, a saved adapter, or the one being trained."""
    if not question.use_adapter:
        return variants.BASE
    return together.saved(adapter)[0] if adapter else present


@contextmanager
def _restored(together: Variants) -> Iterator[None]:
    """Leave the model as the variant and in the mode it has now."""
    model, before = together.loaded.model, together.present
    was_training = model.training
    try:
        yield
    finally:
        together.use(before)
        model.train(was_training)
