"""Key latency and terminal output of the Chat screen while a long answer streams.

A scripted engine sends paragraphs, lists, code and a table at a fixed rate to a terminal of 120×40,
while keys are pressed in the prompt line. `key_p99_ms` is the time from a key press until its
letter is on screen; `bytes_per_second` is everything the program writes, those letters included.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import sys
import threading
import time
from itertools import cycle, islice
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from figures import own_folders, print_figures
from mlxft.chat.history import HISTORY_NAME, HistoryEntry, remember
from mlxft.conversation.messages import Answer, Message
from mlxft.engine.mailbox import Call
from mlxft.engine.protocol import Answered, Chat, TextGenerated
from mlxft.runs.directory import create
from mlxft.runs.journal import JournalWriter
from support.engine import answering
from support.journal import LIVE_RECIPE, LiveEngine
from support.terminal import Terminal

APP = [sys.executable, "-m", "mlxft_tui.cli"]

TEXT = """\
A compiler reads a program in **several passes**, each of which knows a little more than the one \
before it; what the first one can't decide, a later one will.

- the *lexer* cuts the text into words
- the *parser* finds out how the words belong together

```python
def fold(node):
    return node.value if node.is_constant else None
```

| pass | reads | writes |
|---|---|---|
| lexer | text | words |
| parser | words | a tree |

"""


class Writer:
    """Answers each request with `tokens` words of the text at `rate` words per second."""

    def __init__(self, tokens: int, rate: float) -> None:
        self._tokens = tokens
        self._rate = rate
        self._tasks: set[asyncio.Task[None]] = set()
        self.done = threading.Event()

    def handle(self, call: Call) -> None:
        """Handle a call in the event loop."""
        if isinstance(call.command, Chat):
            task = asyncio.create_task(self._write(call))
            self._tasks.add(task)
        else:
            call.done()

    async def _write(self, call: Call) -> None:
        words = list(islice(cycle(TEXT.replace(" ", " \0").split("\0")), self._tokens))
        start = time.monotonic()
        for number, word in enumerate(words, 1):
            call.send(TextGenerated(id=call.id, text=word))
            await asyncio.sleep(max(0.0, start + number / self._rate - time.monotonic()))
        answer = Answer(
            text="".join(words),
            finish_reason="stop",
            prompt_tokens=31,
            generated_tokens=self._tokens,
            prompt_speed=812.0,
            generation_speed=self._rate,
            seconds=50.0,
        )
        call.send(Answered(id=call.id, answer=answer))
        call.done()
        self.done.set()


def key_times(terminal: Terminal, writer: Writer) -> list[float]:
    """Milliseconds from each key press to its effect on screen, during the answer."""
    times = []
    while not writer.done.is_set():
        there = "keyx" in terminal.text
        terminal.send("\x7f" if there else "x")
        wanted = not there
        times.append(1000 * terminal.wait(lambda: ("keyx" in terminal.text) == wanted, 10))  # noqa: B023
        time.sleep(0.25)
    return times


def remember_turns(folder: Path, turns: int) -> None:
    """Write a conversation into the project's history."""
    for turn in range(1, turns + 1):
        entry = HistoryEntry(
            messages=(Message("user", f"Question {turn}"), Message("assistant", TEXT * 2)),
            answerer="base",
            title="base",
            model="model",
            time=time.time(),
            conversation="conversation",
            turn=turn,
            after=turn - 1,
        )
        remember(folder / "adapters" / HISTORY_NAME, entry)


def measure(
    folder: Path, tokens: int, rate: float, turns: int, *, remote: bool
) -> dict[str, float]:
    """Measure one answer."""
    run, recorded = create(folder / "adapters", LIVE_RECIPE, "stream"), LiveEngine()
    journal = JournalWriter(run.journal_file)
    environment = {"SSH_CONNECTION": "10.0.0.1 1 10.0.0.2 22" if remote else "", "SSH_TTY": ""}
    writer = Writer(tokens, rate)
    remember_turns(folder, turns)
    with run.locked(), answering(run, writer.handle):
        for event in recorded.start():
            journal.append(event)
        for event in recorded.next_step():
            journal.append(event)
        with Terminal([*APP, "attach", str(run.path)], 120, 40, environment, folder) as terminal:
            terminal.wait_for("RUNNING", 60)
            terminal.send("4")
            terminal.wait_for("Ask something", 10)
            if turns:
                terminal.send("\x1b")
                terminal.wait_for("Write", 5)
                terminal.send("h")
                terminal.wait_for("past conversations", 10)
                terminal.send("\r")
                terminal.wait_for("a tree", 30)
                terminal.send("i")
                terminal.wait_for("Leave prompt", 5)
            terminal.send("Explain a compiler.\r")
            terminal.wait_for("esc stops", 10)
            terminal.send("key")
            terminal.wait_for("key", 5)
            start, before = time.monotonic(), len(terminal.output)
            times = key_times(terminal, writer)
            seconds, wrote = time.monotonic() - start, len(terminal.output) - before
    return {
        "key_p50_ms": round(statistics.median(times), 1),
        "key_p99_ms": round(statistics.quantiles(times, n=100)[98], 1),
        "key_most_ms": round(max(times), 1),
        "bytes_per_second": round(wrote / seconds),
        "keys": len(times),
        "tokens": tokens,
        "tokens_per_second": rate,
        "turns": turns,
    }


def main() -> None:
    """Print the figures, as one JSON line with ``--json``."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="print one JSON line")
    parser.add_argument("--tokens", type=int, default=1000)
    parser.add_argument("--rate", type=float, default=20.0, help="tokens per second")
    parser.add_argument("--turns", type=int, default=0, help="turns of the conversation so far")
    parser.add_argument("--remote", action="store_true", help="as over SSH")
    options = parser.parse_args()
    with own_folders() as folder:
        figures = measure(
            folder, options.tokens, options.rate, options.turns, remote=options.remote
        )
    print_figures(figures, as_json=options.json)


if __name__ == "__main__":
    main()
