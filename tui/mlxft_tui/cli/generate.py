"""`mlxft-tui generate`: the answers to a file of prompts, as JSON Lines."""

from __future__ import annotations

import contextlib
import functools
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, TextIO

import msgspec

from mlxft.adapters.found import FoundAdapter
from mlxft.conversation.messages import Answer, Message, Question
from mlxft.engine.protocol import AnswerAll, Answered, AnyReply, ModelOpened, OpenModel
from mlxft.errors import DataError
from mlxft.recipe import ChatTemplate
from mlxft_tui.cli.following import INTERRUPTED
from mlxft_tui.cli.service import run_on_service
from mlxft_tui.session import Session

Conversation = tuple[Message, ...]


class _Prompt(msgspec.Struct, frozen=True):
    """A line of a JSON Lines file; other keys are ignored."""

    prompt: str | None = None
    messages: Conversation | None = None


class _Written(msgspec.Struct, frozen=True, kw_only=True):
    """A line of the output."""

    prompt: str
    answer: str
    finish_reason: str
    prompt_tokens: int
    generated_tokens: int


BOM: Final = "\ufeff"
"""The mark with which Windows' editors begin UTF-8 files."""

_decoder: Final = msgspec.json.Decoder(_Prompt)


def read_prompts(file: str, system: str | None) -> tuple[Conversation, ...]:
    """The conversations of a file or, for -, of standard input. Raises `DataError`."""
    try:
        text = sys.stdin.read() if file == "-" else Path(file).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{file}: it can't be read ({error}).") from error
    before = (Message("system", system),) if system else ()
    found = tuple(_conversations(file, text.removeprefix(BOM), before))
    if not found:
        raise DataError(f"{file}: there is no prompt; write one per line.")
    return found


def _conversations(file: str, text: str, before: Conversation) -> Iterator[Conversation]:
    lines = [(at, line) for at, line in enumerate(text.split("\n"), 1) if line.strip()]
    is_json = bool(lines) and lines[0][1].lstrip().startswith("{")
    for at, line in lines:
        messages = _messages(f"{file}:{at}", line) if is_json else (Message("user", line.strip()),)
        has_system = messages[0].role == "system"
        yield messages if has_system else (*before, *messages)


def _messages(place: str, line: str) -> Conversation:
    """The messages up to the last one that the model did not write. Raises `DataError`."""
    try:
        given = _decoder.decode(line)
    except msgspec.MsgspecError as error:
        raise DataError(f"{place}: this is no prompt ({error}).") from error
    if given.prompt is not None:
        return (Message("user", given.prompt),)
    messages = list(given.messages or ())
    while messages and messages[-1].role == "assistant":
        messages.pop()
    if not messages:
        raise DataError(f'{place}: there is no prompt; write {{"prompt": …}} or {{"messages": …}}.')
    return tuple(messages)


def generate(
    session: Session,
    conversations: Sequence[Conversation],
    *,
    model: str,
    adapter: FoundAdapter | None,
    out: Path | None,
    sampling: Mapping[str, Any],
    template: ChatTemplate | None = None,
    trust_remote_code: bool,
) -> int:
    """Write the answers in the order of the prompts; ctrl-c keeps those that are complete.

    `sampling` overrides fields of the model's generation config, `template` replaces the base
    model's chat template.
    """

    def command(opened: ModelOpened) -> AnswerAll:
        replaced = msgspec.structs.replace(opened.sampling, **sampling)
        questions = [Question(messages, replaced) for messages in conversations]
        return AnswerAll(tuple(questions), str(adapter.path) if adapter else None, template)

    if out is not None and not out.parent.is_dir():
        raise DataError(f"{out}: its folder doesn't exist; create it, or choose another --out.")
    with contextlib.ExitStack() as opened_files:
        # Opened for the first answer only, so that a failure before leaves an older file alone.
        writing = _InOrder(lambda: opened_files.enter_context(_output(out)), conversations)

        def take(reply: AnyReply) -> None:
            if isinstance(reply, Answered):
                writing.add(reply.side, reply.answer)

        opening = OpenModel(model, trust_remote_code)
        status = run_on_service(session, opening, command, take, in_lines=True)
        writing.end()
    if status == INTERRUPTED:
        print(f"{writing.written} of {len(conversations)} prompts were answered.", file=sys.stderr)
    return status


@contextlib.contextmanager
def _output(out: Path | None) -> Iterator[TextIO]:
    if out is None:
        yield sys.stdout
        return
    try:
        with out.open("w", encoding="utf-8") as stream:
            yield stream
    except OSError as error:
        raise DataError(f"{out}: it can't be written ({error.strerror}).") from error


class _InOrder:
    """Writes answers in the order of their prompts, though they are complete in any order."""

    def __init__(self, open_: Callable[[], TextIO], conversations: Sequence[Conversation]) -> None:
        self.written = 0
        self._open = open_
        self._conversations = conversations
        self._waiting: dict[int, Answer] = {}
        self._next = 0

    def add(self, index: int, answer: Answer) -> None:
        """Write the answer once all before it are written."""
        self._waiting[index] = answer
        while self._next in self._waiting:
            self._write(self._next)
            self._next += 1

    def end(self) -> None:
        """Write those that waited for one that never came."""
        for index in sorted(self._waiting):
            self._write(index)

    def _write(self, index: int) -> None:
        answer = self._waiting.pop(index)
        line = _Written(
            prompt=self._conversations[index][-1].content,
            answer=answer.text,
            finish_reason=answer.finish_reason,
            prompt_tokens=answer.prompt_tokens,
            generated_tokens=answer.generated_tokens,
        )
        self._stream.write(msgspec.json.encode(line).decode() + "\n")
        self._stream.flush()
        self.written += 1

    @functools.cached_property
    def _stream(self) -> TextIO:
        return self._open()
