"""What a model is asked, and where example prompts come from."""

from __future__ import annotations

import json
from pathlib import Path

from mlxft.chat.dialogue import Dialogue, Turn, cost, messages, missed, records
from mlxft.conversation.messages import Answer, Message
from mlxft.data.examples import Example, examples

EXAMPLE = Example((Message("system", "Be brief."), Message("user", "Two?")), "2", "test line 1")


def write(path: Path, *records: object) -> None:
    path.write_text("".join(json.dumps(record) + "\n" for record in records))


class TestMessages:
    def test_a_conversation_goes_on(self) -> None:
        turns = [Turn("Hello", answers={"adapter": "Hi!"}), Turn("How are you?")]
        assert messages(turns, "adapter") == (
            Message("user", "Hello"),
            Message("assistant", "Hi!"),
            Message("user", "How are you?"),
        )

    def test_each_side_goes_on_from_its_own_answers(self) -> None:
        turns = [Turn("Hello", answers={"adapter": "Hi!", "base": "Good day."}), Turn("And?")]
        assert messages(turns, "base")[1] == Message("assistant", "Good day.")

    def test_what_only_another_side_has_answered_is_left_out_and_counted(self) -> None:
        turns = [Turn("Hello", answers={"base": "Good day."}), Turn("Lost"), Turn("And?")]
        assert messages(turns, "adapter") == (Message("user", "And?"),)
        assert (missed(turns, "adapter"), missed(turns, "base")) == (1, 0)

    def test_a_turn_of_which_nothing_has_come_is_not_counted(self) -> None:
        turns = [Turn("Lost", answers={"base": ""}), Turn("Again")]
        assert messages(turns, "base") == (Message("user", "Again"),)
        assert (missed(turns, "adapter"), missed(turns, "base")) == (0, 0)

    def test_a_turn_without_an_answer_is_left_out(self) -> None:
        turns = [Turn("Lost"), Turn("Again")]
        assert messages(turns, "base") == (Message("user", "Again"),)

    def test_an_example_is_asked_by_itself(self) -> None:
        turns = [Turn("Hello", answers={"base": "Hi"}), Turn("Two?", EXAMPLE)]
        assert messages(turns, "base") == EXAMPLE.messages

    def test_after_an_example_its_own_conversation_goes_on(self) -> None:
        turns = [
            Turn("Hello", answers={"base": "Hi"}),
            Turn("Two?", EXAMPLE, {"base": "2"}),
            Turn("Sure?"),
        ]
        assert messages(turns, "base") == (
            *EXAMPLE.messages,
            Message("assistant", "2"),
            Message("user", "Sure?"),
        )

    def test_a_record_is_made_of_the_answers_that_came_to_their_end(self) -> None:
        turns = [
            Turn("One", answers={"base": "1"}),
            Turn("Stopped", answers={"base": "t"}, ends={"base": "cancelled"}),
            Turn("Failed"),
        ]
        said = (Message("user", "One"), Message("assistant", "1"))
        assert records(turns, "base") == ([said], 2)
        assert records(turns[1:], "base") == ([], 2)

    def test_what_was_asked_by_itself_begins_a_record(self) -> None:
        turns = [
            Turn("One", answers={"base": "1"}),
            Turn("Two?", EXAMPLE, {"base": "2"}),
            Turn("Sure?", answers={"base": "Yes"}),
            Turn("Two?", EXAMPLE),
        ]
        found, left_out = records(turns, "base", "Rhyme.")
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

    def test_come_from_the_validation_set_where_there_is_no_test_set(self, tmp_path: Path) -> None:
        write(tmp_path / "valid.jsonl", {"prompt": "Two?", "completion": "2"})
        assert [example.prompt for example in examples(tmp_path)] == ["Two?"]

    def test_keep_what_was_said_before_the_last_question(self, tmp_path: Path) -> None:
        said = [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": "Two?"},
            {"role": "assistant", "content": "2"},
        ]
        write(tmp_path / "test.jsonl", {"messages": said})
        assert next(examples(tmp_path)).messages == EXAMPLE.messages

    def test_leave_out_what_has_no_prompt_or_is_broken(self, tmp_path: Path) -> None:
        write(tmp_path / "test.jsonl", {"text": "Once upon a time"}, {"prompt": "One?"}, 7)
        assert list(examples(tmp_path)) == []

    def test_of_an_empty_folder_are_none(self, tmp_path: Path) -> None:
        assert list(examples(tmp_path)) == []


class TestCost:
    def test_says_tokens_speed_and_time(self) -> None:
        answer = Answer("Hi", "cancelled", 31, 2, 812.0, 41.5, 1.34)
        assert cost(answer) == "2 tokens in 1.3 s, 41.5 tok/s  prompt 31, 812 tok/s  stopped"


class TestBranches:
    def test_another_way_of_writing_a_turn_keeps_what_followed_the_first(self) -> None:
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

    def test_a_turn_comes_into_view_with_those_that_it_follows(self) -> None:
        dialogue = Dialogue()
        first, second, instead = Turn("One"), Turn("Two"), Turn("Uno")
        dialogue.add(first)
        dialogue.add(second)
        dialogue.edit(first, instead)
        dialogue.show(second)
        assert dialogue.turns == (first, second)

    def test_a_prompt_that_is_asked_again_is_another_attempt_in_each_branch(self) -> None:
        dialogue = Dialogue()
        dialogue.add(first := Turn("Two?", EXAMPLE))
        again = [dialogue.repeat(first) for _ in range(2)]
        assert [turn.attempts for turn in again] == [1, 2]
        assert {turn.example for turn in again} == {EXAMPLE}
        assert dialogue.branches(again[1]) == (3, 3)

    def test_a_system_prompt_comes_first_unless_an_example_has_its_own(self) -> None:
        assert messages([Turn("Hi")], "base", "Rhyme.")[0] == Message("system", "Rhyme.")
        assert messages([Turn("Two?", EXAMPLE)], "base", "Rhyme.") == EXAMPLE.messages
