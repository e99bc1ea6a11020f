"""Many answers generated at once."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import mlx.core as mx
import pytest
from mlx_lm.models.cache import KVCache

from mlxft.compute.generation import batches
from mlxft.compute.generation.chat_model import ChatModel
from mlxft.compute.models.variants import BASE
from mlxft.conversation.messages import Answer, Message, Question, Sampling
from mlxft.errors import ModelError

PROMPTS = ("Lamp.", "Turn on the lamp in the kitchen.", "Rome", "capital of Italy", "on", "off it")


@pytest.fixture
def chat(tiny_model: Path) -> ChatModel:
    return ChatModel(tiny_model)


@pytest.fixture(autouse=True)
def few_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fewer rows than questions, so that some wait for others to end."""
    monkeypatch.setattr(batches, "MOST_ROWS", 3)


def asked(**sampling: Any) -> list[Question]:
    """Questions of different length, with different limits."""
    return [
        Question((Message("user", prompt),), Sampling(**{"max_tokens": 4 + 3 * at, **sampling}))
        for at, prompt in enumerate(PROMPTS)
    ]


def together(
    chat: ChatModel,
    questions: list[Question],
    cancelled: Callable[[dict[int, Answer]], bool] = lambda _: False,
) -> dict[int, Answer]:
    """The answers by their questions' numbers."""
    found: dict[int, Answer] = {}
    batches.answer_all(
        chat.variants,
        BASE,
        chat.tokenizer,
        questions,
        on_answer=found.__setitem__,
        cancelled=lambda: cancelled(found),
    )
    return found


def alone(chat: ChatModel, question: Question) -> Answer:
    chat.load(None)
    return chat.answer(question, lambda _: None, lambda: False, fresh=True)


def counted_inputs(chat: ChatModel, monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """The rows and tokens of each call of the model from now on."""
    sizes: list[tuple[int, int]] = []
    model = type(chat.variants.loaded.model)
    call = model.__call__

    def counted(self: Any, inputs: mx.array, *given: Any, **options: Any) -> mx.array:
        sizes.append((inputs.shape[0], inputs.shape[1]))
        result: mx.array = call(self, inputs, *given, **options)
        return result

    monkeypatch.setattr(model, "__call__", counted)
    return sizes


class TestAnswers:
    @pytest.mark.parametrize(
        "sampling", [{}, {"repetition_penalty": 1.5}, {"stop": ("the", "e")}], ids=str
    )
    def test_are_those_of_each_question_alone(
        self, chat: ChatModel, sampling: dict[str, Any]
    ) -> None:
        questions = asked(**sampling)
        found = together(chat, questions)
        assert sorted(found) == list(range(len(PROMPTS)))
        for index, question in enumerate(questions):
            expected = alone(chat, question)
            assert found[index].text == expected.text
            assert found[index].finish_reason == expected.finish_reason
            assert found[index].generated_tokens == expected.generated_tokens

    def test_sampled_ones_do_not_depend_on_the_other_questions(self, chat: ChatModel) -> None:
        questions = asked(temperature=1.0, seed=3)
        found, fewer = together(chat, questions), together(chat, questions[2:4])
        assert [found[2].text, found[3].text] == [fewer[0].text, fewer[1].text]

    def test_are_generated_in_batches(
        self, chat: ChatModel, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        sizes = counted_inputs(chat, monkeypatch)
        together(chat, asked())
        assert max(rows for rows, _ in sizes) == 3

    @pytest.mark.parametrize("sampling", [{}, {"repetition_penalty": 1.5}], ids=str)
    def test_what_all_prompts_begin_with_is_processed_once(
        self, chat: ChatModel, monkeypatch: pytest.MonkeyPatch, sampling: dict[str, Any]
    ) -> None:
        system = Message("system", "The lamp in the kitchen is on. " * 9)
        questions = [
            Question((system, *each.messages), each.sampling) for each in asked(**sampling)
        ]
        expected = [alone(chat, each) for each in questions]
        sizes = counted_inputs(chat, monkeypatch)
        found = together(chat, questions)
        assert [found[index].text for index in range(len(PROMPTS))] == [
            each.text for each in expected
        ]
        # Twice more when batches are compared with single answers.
        generated = sum(each.generated_tokens for each in expected)
        prompts = [each.prompt_tokens for each in expected]
        assert sum(rows * width for rows, width in sizes) < generated + 4 * max(prompts)

    def test_a_question_that_the_model_cannot_take_is_refused(self, chat: ChatModel) -> None:
        with pytest.raises(ModelError, match="Prompt 7 of 7: The conversation is empty"):
            together(chat, [*asked(), Question(())])


class TestCancelling:
    def test_keeps_the_answers_that_are_complete(self, chat: ChatModel) -> None:
        found = together(chat, asked(), cancelled=lambda done: len(done) >= 2)
        assert 2 <= len(found) < len(PROMPTS)
        assert found[0].text == alone(chat, asked()[0]).text


class TestModelsThatAnswerOnlyOneByOne:
    def test_without_caches_that_can_be_merged(
        self, chat: ChatModel, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.delattr(KVCache, "merge")
        expected = [alone(chat, each).text for each in asked()]
        found = together(chat, asked())
        assert [found[index].text for index in range(len(PROMPTS))] == expected

    def test_because_their_batches_differ(
        self, chat: ChatModel, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        model = type(chat.variants.loaded.model)
        call = model.__call__

        def mixing(self: Any, inputs: mx.array, *given: Any, **options: Any) -> mx.array:
            result: mx.array = call(self, inputs, *given, **options)
            return result + result[::-1] if inputs.shape[0] > 1 else result

        expected = [alone(chat, each).text for each in asked()]
        monkeypatch.setattr(model, "__call__", mixing)
        found = together(chat, asked())
        assert [found[index].text for index in range(len(PROMPTS))] == expected
