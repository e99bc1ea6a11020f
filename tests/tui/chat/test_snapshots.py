"""Snapshots of the Chat screen at the three sizes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias

import pytest
from textual.pilot import Pilot
from textual.widgets import Static

from mlxft.chat.answerers import ADAPTER, BASE, Answerer
from mlxft.chat.dialogue import Turn
from mlxft.conversation.messages import Message
from mlxft.conversation.scores import Case, evaluation, scored
from mlxft.data.examples import Example
from mlxft_tui.chat.answerer_dialog import AnswererDialog
from mlxft_tui.chat.conversation_view import ConversationView
from mlxft_tui.chat.evaluation_dialog import EvaluationDialog, EvaluationPlan
from mlxft_tui.chat.screen import ChatScreen
from mlxft_tui.chat.turn_view import TurnView
from mlxft_tui.session import Session
from mlxft_tui.text.evaluation import evaluation_lines
from support.chat_pilot import BASE_ANSWER, EXPECTED, PROMPT
from support.journal import RUN_RECIPE, followed, preparation, training, view_of
from support.session import ScreenApp

EVALUATION = evaluation(
    "test",
    records=1,
    tokens=10,
    losses=[("base", 2.0), ("adapter", 0.5)],
    cases=[
        Case(
            "test.jsonl line 1",
            PROMPT,
            EXPECTED,
            (scored(BASE_ANSWER, EXPECTED), scored(EXPECTED, EXPECTED)),
        )
    ],
)


Compare: TypeAlias = Callable[..., bool]
Size: TypeAlias = tuple[int, int]

TEXT = """\
# A compiler

It reads a program in **several passes**, each of which *knows more* than `the one before`:

1. the lexer cuts the text into words
2. the parser finds out
   - how they belong together
   - and ~~where~~ what is missing

```python
def fold(node):
    return node.value if node.is_constant else None
```

> Programs must be written for people to read.

| pass | reads | writes |
|---|---|--:|
| parser | words | a tree |
"""


class ChatApp(ScreenApp):
    """The Chat screen of a run in training, without an engine."""

    def __init__(self) -> None:
        run = followed(Path("/project"), view_of([*preparation(), *training(60)]), "running")
        super().__init__(ChatScreen(Session(Path("/project"))), recipe=RUN_RECIPE, run=run)


async def add_comparison(pilot: Pilot[Any]) -> None:
    """Show a test prompt with two answers."""
    example = Example((Message("user", PROMPT),), EXPECTED, "test.jsonl line 1")
    view = TurnView(Turn(PROMPT, example), [(BASE, "base"), (ADAPTER, "adapter · step 60")])
    await pilot.app.screen.query_one(ConversationView).add(view)
    view.answer(BASE).write(BASE_ANSWER)
    view.answer(BASE).finish("21 tokens in 1.1 s, 38.2 tok/s  prompt 31, 812 tok/s")
    view.answer(ADAPTER).write(EXPECTED)
    view.answer(ADAPTER).finish("✓ as expected  14 tokens in 0.4 s, 38.2 tok/s")
    await pilot.pause()


async def add_markdown(pilot: Pilot[Any]) -> None:
    """Show an answer with every kind of Markdown."""
    view = TurnView(Turn("What is a compiler?"), [(ADAPTER, "adapter · step 60")])
    await pilot.app.screen.query_one(ConversationView).add(view)
    view.answer(ADAPTER).finish("212 tokens  38.2 tok/s", "<think>Let me see.</think>" + TEXT)
    await pilot.pause()


async def open_models_dialog(pilot: Pilot[Any]) -> None:
    """Open the dialog with a checkpoint and another run."""
    await add_comparison(pilot)
    answerers = [
        (BASE, "base SmolLM2-135M-Instruct"),
        (ADAPTER, "adapter SmolLM2-135M-Instruct-lora-1, in training, step 260"),
        (Answerer("", 200), "checkpoint step 200"),
        (Answerer("SmolLM2-135M-Instruct-dora-1"), "run SmolLM2-135M-Instruct-dora-1"),
        (
            Answerer("SmolLM2-135M-Instruct-dora-1", 100),
            "run SmolLM2-135M-Instruct-dora-1 · step 100",
        ),
    ]
    await pilot.app.push_screen(AnswererDialog(answerers, [Answerer("", 200), ADAPTER]))
    await pilot.pause()


async def open_evaluation_dialog(pilot: Pilot[Any]) -> None:
    """Ask what to evaluate on, where the run's data have no validation set."""
    await add_comparison(pilot)
    plan = EvaluationPlan(limit=100, max_tokens=128)
    dialog = EvaluationDialog(plan, {"test": 1250, "train": None}, "adapter · step 60 against base")
    await pilot.app.push_screen(dialog)
    await pilot.pause()


async def add_evaluation(pilot: Pilot[Any]) -> None:
    """Show a finished evaluation, with the focus outside the line."""
    lines = "\n".join(evaluation_lines(EVALUATION))
    report = Static(lines, markup=False, classes="evaluation")
    await pilot.app.screen.query_one(ConversationView).add(report)
    await pilot.press("escape")
    await pilot.pause()


@pytest.mark.parametrize("size", [(80, 24), (120, 40), (200, 60)])
class TestSnapshots:
    def test_empty(self, snap_compare: Compare, size: Size) -> None:
        assert snap_compare(ChatApp(), terminal_size=size)

    def test_side_by_side(self, snap_compare: Compare, size: Size) -> None:
        assert snap_compare(ChatApp(), terminal_size=size, run_before=add_comparison)

    def test_markdown(self, snap_compare: Compare, size: Size) -> None:
        assert snap_compare(ChatApp(), terminal_size=size, run_before=add_markdown)

    def test_models_dialog(self, snap_compare: Compare, size: Size) -> None:
        assert snap_compare(ChatApp(), terminal_size=size, run_before=open_models_dialog)

    def test_evaluation_dialog(self, snap_compare: Compare, size: Size) -> None:
        assert snap_compare(ChatApp(), terminal_size=size, run_before=open_evaluation_dialog)

    def test_sampling_dialog(self, snap_compare: Compare, size: Size) -> None:
        assert snap_compare(ChatApp(), terminal_size=size, press=["escape", "s"])

    def test_evaluation(self, snap_compare: Compare, size: Size) -> None:
        assert snap_compare(ChatApp(), terminal_size=size, run_before=add_evaluation)
