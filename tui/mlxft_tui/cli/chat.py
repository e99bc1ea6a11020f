"""`mlxft-tui chat`: one answer on stdout."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

import msgspec

from mlxft.adapters.found import FoundAdapter
from mlxft.conversation.messages import Message, Question
from mlxft.engine.protocol import AnyReply, Chat, ModelOpened, OpenModel, TextGenerated
from mlxft.text.printable import printable
from mlxft_tui.cli.service import run_on_service
from mlxft_tui.session import Session


def chat(
    session: Session,
    *,
    model: str,
    adapter: FoundAdapter | None,
    messages: tuple[Message, ...],
    sampling: Mapping[str, Any],
    trust_remote_code: bool,
) -> int:
    """Answer with the base model or a run's adapter.

    `sampling` overrides fields of the model's generation config.
    """

    def command(opened: ModelOpened) -> Chat:
        replaced = msgspec.structs.replace(opened.sampling, **sampling)
        question = Question(messages, replaced, use_adapter=adapter is not None)
        return Chat(question, str(adapter.path) if adapter else None)

    def take(reply: AnyReply) -> None:
        if isinstance(reply, TextGenerated):
            text = printable(reply.text) if sys.stdout.isatty() else reply.text
            print(text, end="", flush=True)

    status = run_on_service(session, OpenModel(model, trust_remote_code), command, take)
    if status == 0:
        print()
    return status
