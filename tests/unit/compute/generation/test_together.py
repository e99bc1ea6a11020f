"""Interleaved answers from one model in memory."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import mlx.core as mx
import pytest

from mlxft.compute.arrays import named_arrays
from mlxft.compute.generation.answers import Listener
from mlxft.compute.generation.chat_model import ChatModel
from mlxft.compute.models import loading
from mlxft.compute.models.variants import BASE, Variants
from mlxft.conversation.messages import Answer, Message, Question, Sampling
from mlxft.errors import ModelError
from support.models import make_tiny_model
from support.training import MakeRun, Run, trained_once

PROMPT = Message("user", "Turn on the lamp.")


@pytest.fixture
def chat(tiny_model: Path) -> ChatModel:
    return ChatModel(tiny_model)


@pytest.fixture(params=["lora", "dora", "full"])
def trained(request: pytest.FixtureRequest, make_run: MakeRun) -> Run:
    return trained_once(
        make_run(f"fine_tune_type={request.param}", "learning_rate=0.05", "iters=8")
    )


def question(**sampling: Any) -> Question:
    return Question((PROMPT,), Sampling(**{"max_tokens": 12, **sampling}))


def together(
    chat: ChatModel, adapters: list[Path | None], asked: Question, order: list[int] | None = None
) -> list[str]:
    """The answers' texts; `order` collects the index of the answer each piece belongs to."""
    pieces = [] if order is None else order

    def listener(index: int) -> Listener:
        return Listener(lambda _: pieces.append(index), lambda: False)

    chat.load(*adapters)
    answers = chat.answer_together(
        [(asked, adapter, listener(index)) for index, adapter in enumerate(adapters)]
    )
    return [answer.text for answer in answers]


def alone(chat: ChatModel, adapter: Path | None, asked: Question) -> str:
    chat.load(adapter)
    return chat.answer(asked, lambda _: None, lambda: False, fresh=True).text


class TestTogether:
    @pytest.mark.parametrize("temperature", [0.0, 1.0])
    def test_each_answer_is_the_same_as_alone(
        self, chat: ChatModel, trained: Run, temperature: float
    ) -> None:
        asked = question(temperature=temperature, seed=3)
        adapters: list[Path | None] = [None, trained.directory.path]
        expected = [alone(chat, adapter, asked) for adapter in adapters]
        assert expected[0] != expected[1]
        assert together(chat, adapters, asked) == expected

    def test_two_checkpoints_of_a_run(self, chat: ChatModel, make_run: MakeRun) -> None:
        run = make_run("learning_rate=0.05", "save_every=2", "iters=8")
        run.train()
        adapters: list[Path | None] = [
            run.directory.numbered_adapter_file(2),
            run.directory.path,
        ]
        expected = [alone(chat, adapter, question()) for adapter in adapters]
        assert expected[0] != expected[1]
        assert together(chat, adapters, question()) == expected

    def test_the_answers_are_interleaved(self, chat: ChatModel, make_run: MakeRun) -> None:
        run = make_run("learning_rate=0.01", "iters=2")
        run.train()
        order: list[int] = []
        together(chat, [None, run.directory.path], question(temperature=1.0), order)
        assert {0, 1} <= set(order[:4])

    def test_each_answer_is_reported_when_done_with_its_own_time(self, chat: ChatModel) -> None:
        order: list[str] = []
        reported: list[Answer] = []

        def listener(name: str) -> Listener:
            return Listener(
                lambda _: order.append(name),
                lambda: False,
                on_answer=lambda each: reported.append(each),
            )

        chat.load(None)
        started = time.perf_counter()
        short, long = chat.answer_together(
            [
                (question(max_tokens=2), None, listener("short")),
                (question(max_tokens=40), None, listener("long")),
            ]
        )
        both = time.perf_counter() - started
        assert reported == [short, long]
        assert short.seconds + long.seconds <= both
        assert short.first_token_seconds <= short.seconds

    def test_a_model_in_training_answers_beside_its_base(
        self, chat: ChatModel, trained: Run
    ) -> None:
        session = trained.session()
        session.prepare()
        asked = question(temperature=1.0)
        base = Question(asked.messages, asked.sampling, use_adapter=False)
        silent = Listener(lambda _: None, lambda: False)
        answers: tuple[Answer, ...] = session.answer_together(
            [(base, None, silent), (asked, None, silent)]
        )
        expected = [alone(chat, adapter, asked) for adapter in (None, trained.directory.path)]
        assert [each.text for each in answers] == expected

    def test_a_checkpoint_answers_beside_the_model_in_training(
        self, chat: ChatModel, trained: Run
    ) -> None:
        file = trained.directory.path
        session = trained.session()
        session.prepare()
        model = session.prepared.loaded.model
        model.train()
        before = {name: id(each) for name, each in named_arrays(model.parameters()).items()}
        silent = Listener(lambda _: None, lambda: False)
        asked = question(temperature=1.0)
        answers = session.answer_together([(asked, file, silent), (asked, None, silent)])
        assert {each.text for each in answers} == {alone(chat, file, asked)}
        after = named_arrays(model.parameters())
        assert {name: id(each) for name, each in after.items()} == before
        assert model.training

    @pytest.mark.parametrize("kind", ["lora", "dora"])
    def test_answers_are_free_of_dropout(
        self, chat: ChatModel, make_run: MakeRun, kind: str
    ) -> None:
        settings = (f"fine_tune_type={kind}", "learning_rate=0.05", "lora_parameters.dropout=0.5")
        run = make_run(*settings, "iters=8", "save_every=4")
        run.train()
        session = run.session()
        session.prepare()
        session.prepared.loaded.model.train()
        silent = Listener(lambda _: None, lambda: False)
        checkpoint = run.directory.numbered_adapter_file(4)
        for adapters in ([checkpoint, None], [None, checkpoint]):
            answers = session.answer_together(
                [(question(), adapter, silent) for adapter in adapters]
            )
            expected = [
                alone(chat, adapter or run.directory.path, question()) for adapter in adapters
            ]
            assert [each.text for each in answers] == expected
        layers = session.prepared.loaded.model.modules()
        assert all(each.training for each in layers)

    def test_an_adapter_that_does_not_fit_leaves_the_model_in_training_unchanged(
        self, trained: Run, make_run: MakeRun, tmp_path: Path
    ) -> None:
        model = make_tiny_model(tmp_path / "other", hidden_size=48)
        other = make_run(f"model={model}", "iters=1")
        other.train()
        session = trained.session()
        session.prepare()
        silent = Listener(lambda _: None, lambda: False)
        (before,) = session.answer_together([(question(), None, silent)])
        with pytest.raises(ModelError, match="is of another model"):
            session.answer_together([(question(), other.directory.path, silent)])
        (after,) = session.answer_together([(question(), None, silent)])
        assert after.text == before.text


class TestMemory:
    def test_base_and_adapter_share_all_untrained_arrays(
        self, tiny_model: Path, trained: Run
    ) -> None:
        variants = Variants(loading.load(tiny_model))
        model = variants.loaded.model
        base = dict(named_arrays(model.parameters()))
        variant, _ = variants.saved(trained.directory.path)
        variants.use(variant)
        tuned = named_arrays(model.parameters()).values()
        before = {id(array) for array in base.values()}
        added = [array for array in tuned if id(array) not in before]
        changed = named_arrays(mx.load(str(trained.directory.adapter_file)))
        assert sum(each.nbytes for each in added) <= sum(each.nbytes for each in changed.values())
        variants.use(BASE)
        after = named_arrays(model.parameters())
        assert {name: id(array) for name, array in after.items()} == {
            name: id(array) for name, array in base.items()
        }

    def test_an_adapter_that_does_not_fit_leaves_the_base_unchanged(
        self, make_run: MakeRun, tmp_path: Path
    ) -> None:
        run = make_run("iters=1")
        run.train()
        other = ChatModel(make_tiny_model(tmp_path / "other", hidden_size=48))
        before = alone(other, None, question())
        with pytest.raises(Exception, match="is of another model"):
            other.load(run.directory.path)
        assert alone(other, None, question()) == before


class TestPromptCache:
    def turns(self, chat: ChatModel, *, fresh: bool) -> list[Answer]:
        """Two turns of a conversation, then the first prompt again."""
        said: tuple[Message, ...] = (PROMPT,)
        first = chat.answer(
            Question(said, Sampling(max_tokens=12)), lambda _: None, lambda: False, fresh=fresh
        )
        said = (*said, Message("assistant", first.text), Message("user", "And off?"))
        rest = [
            chat.answer(
                Question(each, Sampling(max_tokens=12)), lambda _: None, lambda: False, fresh=fresh
            )
            for each in (said, (PROMPT,))
        ]
        return [first, *rest]

    def test_a_next_turn_processes_only_new_tokens(self, chat: ChatModel) -> None:
        kept, fresh = self.turns(chat, fresh=False), self.turns(chat, fresh=True)
        assert [each.text for each in kept] == [each.text for each in fresh]
        assert kept[0].reused_tokens == 0
        assert kept[1].reused_tokens >= kept[0].prompt_tokens
        assert kept[2].reused_tokens == kept[2].prompt_tokens - 1
        assert [each.reused_tokens for each in fresh] == [0, 0, 0]

    def test_a_repetition_penalty_sees_cached_tokens(self, chat: ChatModel) -> None:
        asked = question(repetition_penalty=3.0)
        first, again = (chat.answer(asked, lambda _: None, lambda: False).text for _ in range(2))
        assert first == again

    def test_a_cancelled_answer_does_not_affect_the_next(self, chat: ChatModel) -> None:
        expected = alone(chat, None, question())
        pieces: list[str] = []
        chat.answer(question(max_tokens=200), pieces.append, lambda: len(pieces) >= 3)
        assert chat.answer(question(), lambda _: None, lambda: False).text == expected

    def test_a_changed_adapter_clears_the_cache(self, chat: ChatModel, make_run: MakeRun) -> None:
        run, other = make_run("iters=1"), make_run("learning_rate=0.05", "iters=8")
        run.train()
        other.train()
        chat.load(run.directory.path)
        chat.answer(question(), lambda _: None, lambda: False)
        run.directory.adapter_file.write_bytes(other.adapter())
        chat.load(run.directory.path)
        assert chat.answer(question(), lambda _: None, lambda: False).reused_tokens == 0


class TestStop:
    def test_a_stop_string_ends_the_answer_and_is_left_out(self, chat: ChatModel) -> None:
        whole = alone(chat, None, question())
        stop = whole[4:7]
        found = chat.answer(question(stop=(stop,)), lambda _: None, lambda: False)
        assert found.text == whole[: whole.index(stop)]
        assert found.finish_reason == "stop"


class TestCost:
    def test_first_token_and_context_are_reported(self, chat: ChatModel) -> None:
        found = chat.answer(question(), lambda _: None, lambda: False)
        assert 0 < found.first_token_seconds < found.seconds
        assert found.context_tokens == found.prompt_tokens + 12
        assert found.context_length == 512

    def test_a_long_prompt_reports_its_progress(self, chat: ChatModel) -> None:
        progress: list[tuple[int, int]] = []
        listener = Listener(lambda _: None, lambda: False, lambda *each: progress.append(each))
        asked = Question((Message("user", "a" * 480),), Sampling(max_tokens=2))
        (answer,) = chat.answer_together([(asked, None, listener)])
        assert progress[-1] == (answer.prompt_tokens, answer.prompt_tokens)
        assert any(0 < done < total for done, total in progress)
