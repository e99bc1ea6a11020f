"""A chat command answered in the MLX thread: text as it comes, then the whole."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from mlxft.conversation import Answer, Question
from mlxft.engine.failure import sentence
from mlxft.engine.mailbox import Call
from mlxft.engine.protocol import Answered, Chat, TextGenerated


class Answering(Protocol):
    """What generates: a model being trained, or one loaded for chat."""

    def __call__(
        self, question: Question, on_text: Callable[[str], None], cancelled: Callable[[], bool]
    ) -> Answer: ...


def answer_chat(
    call: Call, generate: Answering, log: Path, step: int | None = None
) -> Answer | None:
    """Stream the answer to the caller; None if it had to be refused."""
    assert isinstance(call.command, Chat)

    def on_text(text: str) -> None:
        call.send(TextGenerated(id=call.id, text=text))

    try:
        answer = generate(call.command.question, on_text, call.cancelled.is_set)
    except Exception as error:
        call.refuse(sentence(error, "The answer has failed", log))
        return None
    call.send(Answered(id=call.id, answer=answer, step=step))
    call.done()
    return answer
