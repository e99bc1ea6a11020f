"""Past conversations, rebuilt from a project's history."""

from __future__ import annotations

import msgspec
import pytest

from mlxft.chat.answerers import ADAPTER, BASE, Answerer
from mlxft.chat.dialogue import Dialogue, Turn, messages
from mlxft.chat.history import HistoryEntry
from mlxft.chat.reopen import Conversation, conversations, history_entry, reopened
from mlxft.conversation.messages import Message, Sampling
from mlxft.data.examples import Example

EXAMPLE = Example((Message("system", "Be brief."), Message("user", "Two?")), "2", "test line 1")


def answered(dialogue: Dialogue, turn: Turn, **answers: str) -> list[HistoryEntry]:
    """Answer a turn; returns the history entries."""
    for name, text in answers.items():
        turn.titles[Answerer.parse(name)] = f"the {name}"
        turn.answers[Answerer.parse(name)] = text
    return [
        history_entry(
            dialogue,
            turn,
            answerer,
            messages(dialogue.up_to(turn), answerer),
            followed="lamp-lora-1",
            model="demo",
            sampling=Sampling(),
            time=float(turn.number),
        )
        for answerer in map(Answerer.parse, answers)
    ]


def one_two() -> tuple[Dialogue, list[HistoryEntry]]:
    dialogue = Dialogue("c")
    one, two = Turn("One"), Turn("Two")
    dialogue.add(one)
    history = answered(dialogue, one, base="1", adapter="I")
    dialogue.add(two)
    return dialogue, history + answered(dialogue, two, adapter="II")


class TestReopened:
    def test_prompts_answers_and_columns_are_restored(self) -> None:
        _, history = one_two()
        one, two = reopened(Conversation("c", history), "lamp-lora-1").turns
        assert (one.prompt, two.prompt) == ("One", "Two")
        assert one.answered == [(BASE, "the base"), (ADAPTER, "the adapter")]
        assert (one.answers, two.answers) == ({BASE: "1", ADAPTER: "I"}, {ADAPTER: "II"})

    def test_answers_of_another_run_have_its_name(self) -> None:
        _, history = one_two()
        one, _ = reopened(Conversation("c", history), "another-run").turns
        assert list(one.answers) == [BASE, Answerer("lamp-lora-1")]

    @pytest.mark.parametrize(
        ("answerer", "title", "name", "shown"),
        [
            ("lamp-1@", "adapter · step 9", "Warm", "Warm · step 9"),
            ("lamp-1@5", "checkpoint · step 5", "lamp-1", "lamp-1 · step 5"),
            ("lamp-1@5", "Cold · step 5", "Warm", "Warm · step 5"),
            ("gone-1@", "Cold", "gone-1", "Cold"),
        ],
    )
    def test_runs_have_the_names_that_people_see(
        self, answerer: str, title: str, name: str, shown: str
    ) -> None:
        _, history = one_two()
        entry = msgspec.structs.replace(history[0], answerer=answerer, title=title)
        (turn,) = reopened(Conversation("c", [entry]), "", lambda _: name).turns
        assert list(turn.titles.values()) == [shown]

    def test_branches_are_kept_and_the_last_one_is_in_view(self) -> None:
        dialogue, history = one_two()
        instead = Turn("Too")
        dialogue.edit(dialogue.turns[1], instead)
        history += answered(dialogue, instead, adapter="2")
        again = reopened(Conversation("c", history), "lamp-lora-1")
        assert [turn.prompt for turn in again.turns] == ["One", "Too"]
        assert again.branches(again.turns[1]) == (2, 2)

    def test_the_last_of_several_answers_is_shown(self) -> None:
        dialogue, history = one_two()
        history += answered(dialogue, dialogue.turns[1], adapter="two")
        assert reopened(Conversation("c", history), "").turns[1].answers == {
            Answerer("lamp-lora-1"): "two"
        }

    def test_answers_cleared_by_a_retry_do_not_come_back(self) -> None:
        dialogue, history = one_two()
        one, two = dialogue.turns
        one.answers.clear()
        one.titles.clear()
        one.attempts = 1
        history += answered(dialogue, one, adapter="i")
        again = reopened(Conversation("c", history), "lamp-lora-1").turns
        assert [turn.answers for turn in again] == [{ADAPTER: "i"}, two.answers]
        assert again[0].attempts == 1

    def test_without_attempts_each_answerers_last_answer_is_shown(self) -> None:
        dialogue, history = one_two()
        one = dialogue.turns[0]
        one.titles.clear()
        history += answered(dialogue, one, adapter="i", base="one")
        again = reopened(Conversation("c", history), "lamp-lora-1").turns[0]
        assert list(again.answers.items()) == [(ADAPTER, "i"), (BASE, "one")]

    def test_turns_after_an_unanswered_prompt_follow_the_one_before(self) -> None:
        dialogue, history = one_two()
        dialogue.add(Turn("Lost"))
        four = Turn("Four")
        dialogue.add(four)
        history += answered(dialogue, four, base="4")
        again = reopened(Conversation("c", history), "")
        assert [turn.prompt for turn in again.turns] == ["One", "Two", "Four"]
        again.add(five := Turn("Five"))
        assert five.number > four.number

    @pytest.mark.parametrize("ahead", [0, 10**15])
    def test_turns_of_two_viewers_become_two_branches(self, ahead: int) -> None:
        """Even if the clock was ahead when the conversation began."""
        _, history = one_two()
        history = [
            msgspec.structs.replace(
                each, turn=each.turn + ahead, after=each.after + ahead if each.after else 0
            )
            for each in history
        ]
        here, there = (reopened(Conversation("c", history), "lamp-lora-1") for _ in range(2))
        for dialogue, prompt in ((here, "Here"), (there, "There")):
            dialogue.add(turn := Turn(prompt))
            history += answered(dialogue, turn, adapter=f"{prompt}!")
        again = reopened(Conversation("c", history), "lamp-lora-1")
        assert again.branches(again.turns[2]) == (2, 2)
        assert again.turns[2].answers == {ADAPTER: f"{again.turns[2].prompt}!"}
        again.switch(again.turns[2], 1)
        assert again.turns[2].answers == {ADAPTER: f"{again.turns[2].prompt}!"}
        assert [turn.prompt for turn in again.turns[:2]] == ["One", "Two"]

    def test_a_turn_that_follows_itself_becomes_a_first_one(self) -> None:
        _, history = one_two()
        broken = [msgspec.structs.replace(each, after=each.turn) for each in history]
        again = reopened(Conversation("c", broken), "")
        assert [turn.prompt for turn in again.turns] == ["Two"]
        assert again.branches(again.turns[0]) == (2, 2)

    def test_examples_are_restored(self) -> None:
        dialogue = Dialogue("c")
        dialogue.add(turn := Turn(EXAMPLE.prompt, EXAMPLE))
        history = answered(dialogue, turn, base="3")
        assert reopened(Conversation("c", history), "").turns[0].example == EXAMPLE

    def test_an_edited_example_is_still_sent_alone(self) -> None:
        dialogue = Dialogue("c")
        dialogue.add(turn := Turn(EXAMPLE.prompt, EXAMPLE).rewritten("Three?"))
        history = answered(dialogue, turn, base="3")
        (again,) = reopened(Conversation("c", history), "").turns
        assert again.example is None
        assert again.alone == (Message("system", "Be brief."), Message("user", "Three?"))
        assert Conversation("c", history).system == ""


class TestOldFiles:
    def test_an_entry_written_by_an_earlier_version_is_reopened(self) -> None:
        line = (
            b'{"messages":[{"role":"user","content":"One"},{"role":"assistant","content":"1"}],'
            b'"side":"lamp-lora-1@200","title":"checkpoint \xc2\xb7 step 200","model":"demo",'
            b'"time":1.0,"conversation":"c","turn":1}'
        )
        entry = msgspec.json.decode(line, type=HistoryEntry)
        (turn,) = reopened(Conversation("c", [entry]), "other").turns
        assert turn.titles == {Answerer("lamp-lora-1", 200): "lamp-lora-1 · step 200"}


class TestConversations:
    def test_the_system_prompt_is_that_of_the_last_turn(self) -> None:
        _, history = one_two()
        assert Conversation("c", history).system == ""
        messages = (Message("system", "Rhyme."), *history[0].messages)
        history.append(msgspec.structs.replace(history[0], messages=messages))
        assert Conversation("c", history).system == "Rhyme."

    def test_the_latest_comes_first(self) -> None:
        _, history = one_two()
        other = Dialogue("d")
        other.add(turn := Turn("Other", number=history[-1].turn + 1))
        found = conversations([*history, *answered(other, turn, base="o")])
        assert [(each.name, each.first_prompt, each.prompts) for each in found] == [
            ("d", "Other", 1),
            ("c", "One", 2),
        ]
