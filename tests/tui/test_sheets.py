"""Sheets return what they show, however fast the keys come."""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from typing import Any

import pytest
from textual.app import ComposeResult
from textual.widgets import Static

from mlxft.chat.answerers import ADAPTER, BASE
from mlxft.chat.history import HistoryEntry
from mlxft.chat.reopen import Conversation
from mlxft.conversation.messages import Message, Sampling
from mlxft_tui.chat.answerer_dialog import AnswererDialog
from mlxft_tui.chat.conversation_dialog import ConversationDialog
from mlxft_tui.chat.evaluation_dialog import EvaluationDialog, EvaluationPlan
from mlxft_tui.chat.sampling_dialog import SamplingDialog
from mlxft_tui.data.columns import ColumnsDialog
from mlxft_tui.data.split import SplitDialog
from mlxft_tui.frame.choice import ChoiceDialog
from mlxft_tui.frame.confirm import ConfirmDialog
from mlxft_tui.frame.sheet import Sheet
from mlxft_tui.terminal.key_queue import KeyQueueApp
from support.session import RECIPE
from tui.test_key_queue import all_handled, press_together

BURSTS = int(os.environ.get("BURSTS", "1"))
"""Random bursts for each sheet."""

TURN = {"role": "user", "content": "On?", "who": "a", "says": "b"}
RECORDS = [{"ask": "On?", "answer": "yes", "messages": [TURN]}]
ENTRY = HistoryEntry(
    messages=(Message("user", "On?"), Message("assistant", "Yes.")),
    answerer="base",
    title="base",
    model="m",
    time=0.0,
    conversation="c",
    turn=1,
)

MOVES = ("up", "down", "left", "right", "home", "end", "j", "k", "h", "l")

SHEETS: dict[str, tuple[Callable[[], Sheet[Any]], tuple[str, ...]]] = {
    "columns": (lambda: ColumnsDialog(RECORDS, RECIPE), (*MOVES, "backspace", "delete")),
    "split": (lambda: SplitDialog("train.jsonl", 300, "data-split"), MOVES),
    "choice": (
        lambda: ChoiceDialog("start from", [(f"preset {n}", "") for n in range(9)], 3),
        MOVES,
    ),
    "confirm": (lambda: ConfirmDialog("Delete it?", "Delete"), ("enter", "x", "left")),
    "models": (
        lambda: AnswererDialog([(BASE, "base"), (ADAPTER, "adapter")], [BASE]),
        (*MOVES, "space"),
    ),
    "conversations": (
        lambda: ConversationDialog(
            [Conversation(f"{n}", [ENTRY]) for n in range(5)], lambda: 60.0, lambda _: None
        ),
        MOVES,
    ),
    "sampling": (
        lambda: SamplingDialog(Sampling(), "", Sampling(temperature=0.7)),
        ("up", "down", "left", "right", "home", "end", "backspace", "delete", "ctrl+r", *"0123.-x"),
    ),
    "evaluation": (
        lambda: EvaluationDialog(EvaluationPlan(), {"test": 50, "valid": None}, "base"),
        MOVES,
    ),
}


class SheetApp(KeyQueueApp):
    """Opens one sheet after another and keeps their answers."""

    def __init__(self) -> None:
        super().__init__()
        self.answers: list[object] = []

    def compose(self) -> ComposeResult:
        yield Static()

    async def burst(self, pilot: Any, sheet: Sheet[Any], *keys: str, at_once: bool) -> object:
        """The answer to the keys, posted at once or each after the one before."""
        before = len(self.answers)
        self.push_screen(sheet, self.answers.append)
        await pilot.pause()
        for part in [keys] if at_once else [(key,) for key in keys]:
            press_together(self, *part)
            await all_handled(self, pilot)
        assert len(self.answers) == before + 1, keys
        return self.answers[-1]


@pytest.mark.parametrize("name", SHEETS)
class TestBursts:
    async def test_the_answer_is_that_of_slow_keys(self, name: str) -> None:
        make, alphabet = SHEETS[name]
        accept, cancel = ("y", "n") if name == "confirm" else ("enter", "escape")
        app = SheetApp()
        async with app.run_test(size=(80, 24)) as pilot:
            for seed in range(BURSTS):
                generator = random.Random(f"{name} {seed}")
                keys = generator.choices(alphabet, k=generator.randint(1, 25))
                end = [accept, *generator.choices((accept, cancel), k=2)]
                if name == "sampling":
                    keys += ["ctrl+r"]
                answers = [
                    await app.burst(pilot, make(), *keys, *end, at_once=at_once)
                    for at_once in (False, True)
                ]
                assert answers[0] is not None
                assert answers[0] == answers[1], keys
