"""Conversations: what a model is sent, records, branches and examples."""

from __future__ import annotations

import json
from pathlib import Path

from mlxft.chat.answerers import ADAPTER, BASE
from mlxft.chat.dialogue import Dialogue, Turn, cost, messages, missed, records
from mlxft.conversation.messages import Answer, Message
from mlxft.data.examples import Example, examples

EXAMPLE = Example((Message("system", "Be brief."), Message("user", "Two?")), "2", "test line 1")


def write(path: Path, *records: object) -> None:
    path.write_text("".join(json.dumps(record) + "\n" for record in records))


class TestMessages:
    def test_a_conversation_is_continued(self) -> None:
        turns = [Turn("Hello", answers={ADAPTER: "Hi!"}), Turn("How are you?")]
        assert messages(turns, ADAPTER) == (
            Message("user", "Hello"),
            Message("assistant", "Hi!"),
            Message("user", "How are you?"),
        )

    def test_each_answerer_is_sent_its_own_answers(self) -> None:
        turns = [Turn("Hello", answers={ADAPTER: "Hi!", BASE: "Good day."}), Turn("And?")]
        assert messages(turns, BASE)[1] == Message("assistant", "Good day.")

    def test_turns_only_another_answered_are_left_out_and_counted(self) -> None:
        turns = [Turn("Hello", answers={BASE: "Good day."}), Turn("Lost"), Turn("And?")]
        assert messages(turns, ADAPTER) == (Message("user", "And?"),)
        assert (missed(turns, ADAPTER), missed(turns, BASE)) == (1, 0)

    def test_a_turn_with_empty_answers_is_not_counted(self) -> None:
        turns = [Turn("Lost", answers={BASE: ""}), Turn("Again")]
        assert messages(turns, BASE) == (Message("user", "Again"),)
        assert (missed(turns, ADAPTER), missed(turns, BASE)) == (0, 0)

    def test_a_turn_without_an_answer_is_left_out(self) -> None:
        turns = [Turn("Lost"), Turn("Again")]
        assert messages(turns, BASE) == (Message("user", "Again"),)

    def test_an_example_is_sent_alone(self) -> None:
        turns = [Turn("Hello", answers={BASE: "Hi"}), Turn("Two?", EXAMPLE)]
        assert messages(turns, BASE) == EXAMPLE.messages

    def test_turns_after_an_example_continue_it(self) -> None:
        turns = [
            Turn("Hello", answers={BASE: "Hi"}),
            Turn("Two?", EXAMPLE, answers={BASE: "2"}),
            Turn("Sure?"),
        ]
        assert messages(turns, BASE) == (
            *EXAMPLE.messages,
            Message("assistant", "2"),
            Message("user", "Sure?"),
        )

    def test_a_record_is_made_of_complete_answers(self) -> None:
        turns = [
            Turn("One", answers={BASE: "1"}),
            Turn("Stopped", answers={BASE: "t"}, ends={BASE: "cancelled"}),
            Turn("Failed"),
        ]
        said = (Message("user", "One"), Message("assistant", "1"))
        assert records(turns, BASE) == ([said], 2)
        assert records(turns[1:], BASE) == ([], 2)

    def test_a_turn_sent_alone_starts_a_record(self) -> None:
        turns = [
            Turn("One", answers={BASE: "1"}),
            Turn("Two?", EXAMPLE, answers={BASE: "2"}),
            Turn("Sure?", answers={BASE: "Yes"}),
            Turn("Two?", EXAMPLE),
        ]
        found, left_out = records(turns, BASE, "Rhyme.")
        assert [[each.content for each in said] for said in found] == [
            ["Rhyme.", "One", "1"],
            ["Be brief.", "Two?", "2", "Sure?", "Yes"],
        ]
        assert left_out == 1


class TestExamples:
    def test_come_from_the_test_set(self, tmp_path: Path) -> None:
        write(tmp_path / "test.jsonl", {"prompt": "One?", "completion": "1"})
        write(tmp_path / "valid.jsonl", {"prompt": "Two?", "completion": "2"})
        (example,) = examples(tmp_path)
        assert (example.prompt, example.expected) == ("One?", "1")
        assert example.place == "test.jsonl line 1"

    def test_come_from_the_validation_set_without_a_test_set(self, tmp_path: Path) -> None:
        write(tmp_path / "valid.jsonl", {"prompt": "Two?", "completion": "2"})
        assert [example.prompt for example in examples(tmp_path)] == ["Two?"]

    def test_keep_the_messages_before_the_last_prompt(self, tmp_path: Path) -> None:
        said = [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": "Two?"},
            {"role": "assistant", "content": "2"},
        ]
        write(tmp_path / "test.jsonl", {"messages": said})
        assert next(examples(tmp_path)).messages == EXAMPLE.messages

    def test_skip_records_that_are_broken_or_have_no_prompt(self, tmp_path: Path) -> None:
        write(tmp_path / "test.jsonl", {"text": "Once upon a time"}, {"prompt": "One?"}, 7)
        assert list(examples(tmp_path)) == []

    def test_an_empty_folder_has_none(self, tmp_path: Path) -> None:
        assert list(examples(tmp_path)) == []


class TestCost:
    def test_shows_tokens_speed_and_time(self) -> None:
        answer = Answer(
            text="Hi",
            finish_reason="cancelled",
            prompt_tokens=31,
            generated_tokens=2,
            prompt_speed=812.0,
            generation_speed=41.5,
            seconds=1.34,
        )
        assert cost(answer) == "2 tokens in 1.3 s, 41.5 tok/s  prompt 31, 812 tok/s  stopped"


class TestBranches:
    def test_an_edit_keeps_the_turns_after_the_original(self) -> None:
        dialogue = Dialogue()
        first, second, instead = Turn("One"), Turn("Two"), Turn("Uno")
        dialogue.add(first)
        dialogue.add(second)
        dialogue.edit(first, instead)
        assert dialogue.turns == (instead,)
        assert dialogue.branches(instead) == (2, 2)
        dialogue.switch(instead, -1)
        assert dialogue.turns == (first, second)
        assert dialogue.branches(second) == (1, 1)

    def test_showing_a_turn_shows_those_before_it(self) -> None:
        dialogue = Dialogue()
        first, second, instead = Turn("One"), Turn("Two"), Turn("Uno")
        dialogue.add(first)
        dialogue.add(second)
        dialogue.edit(first, instead)
        dialogue.show(second)
        assert dialogue.turns == (first, second)

    def test_each_retry_is_another_attempt_in_its_own_branch(self) -> None:
        dialogue = Dialogue()
        dialogue.add(first := Turn("Two?", EXAMPLE))
        again = [dialogue.retry(first) for _ in range(2)]
        assert [turn.attempts for turn in again] == [1, 2]
        assert {turn.example for turn in again} == {EXAMPLE}
        assert dialogue.branches(again[1]) == (3, 3)

    def test_a_system_prompt_comes_first(self) -> None:
        assert messages([Turn("Hi")], BASE, "Rhyme.")[0] == Message("system", "Rhyme.")
        assert messages([Turn("Two?", EXAMPLE)], BASE, "Rhyme.") == EXAMPLE.messages
