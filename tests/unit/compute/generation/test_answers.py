"""Answers of a tiny model."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from mlxft.compute.generation.chat_model import ChatModel
from mlxft.conversation.messages import Answer, Message, Question, Sampling
from mlxft.errors import ModelError
from support.models import make_tiny_model
from support.training import MakeRun, ask_session


def ask(
    model: ChatModel,
    text: str = "Turn on the lamp.",
    *,
    use_adapter: bool = True,
    **sampling: float,
) -> Answer:
    """Ask a question; checks that the streamed text is the answer's."""
    pieces: list[str] = []
    chosen = Sampling(**{"max_tokens": 12, **sampling})  # type: ignore[arg-type]
    question = Question((Message("user", text),), chosen, use_adapter)
    answer = model.answer(question, pieces.append, lambda: False)
    assert "".join(pieces) == answer.text
    return answer


@pytest.fixture
def chat(tiny_model: Path) -> ChatModel:
    return ChatModel(tiny_model)


class TestAnswer:
    def test_it_reports_tokens_and_speed(self, chat: ChatModel) -> None:
        answer = ask(chat)
        assert answer.finish_reason == "length"
        assert answer.generated_tokens == 12
        assert answer.prompt_tokens > 5
        assert min(answer.prompt_speed, answer.generation_speed, answer.seconds) > 0

    def test_it_ends_at_an_end_token(self, tiny_model: Path, tmp_path: Path) -> None:
        """Declare every token an end token."""
        folder = shutil.copytree(tiny_model, tmp_path / "ends")
        config = (folder / "config.json").read_text()
        ids = str(list(range(400)))
        (folder / "config.json").write_text(
            config.replace('"eos_token_id": 2', f'"eos_token_id": {ids}')
        )
        answer = ask(ChatModel(folder))
        assert (answer.finish_reason, answer.text, answer.generated_tokens) == ("stop", "", 1)

    def test_the_seed_determines_a_sampled_answer(self, chat: ChatModel) -> None:
        texts = [ask(chat, temperature=1.0, seed=seed).text for seed in (1, 1, 2)]
        assert texts[0] == texts[1] != texts[2]

    def test_a_greedy_answer_ignores_the_seed(self, chat: ChatModel) -> None:
        assert ask(chat, seed=1).text == ask(chat, seed=2).text

    def test_a_repetition_penalty_changes_it(self, chat: ChatModel) -> None:
        assert ask(chat).text != ask(chat, repetition_penalty=5.0).text

    def test_only_whole_characters_are_streamed(self, chat: ChatModel) -> None:
        """A random model generates invalid bytes, yet each piece is valid text."""
        answer = ask(chat, temperature=3.0, max_tokens=200)
        assert answer.text.encode("utf-8").decode("utf-8") == answer.text

    def test_a_model_without_a_template_continues_plain_text(self, tmp_path: Path) -> None:
        model = ChatModel(make_tiny_model(tmp_path / "plain", chat_template=None))
        answer = ask(model, "Turn on")
        assert answer.prompt_tokens == len(model.tokenizer.encode("Turn on"))


class TestCancel:
    def test_an_answer_ends_within_a_token(self, chat: ChatModel) -> None:
        pieces: list[str] = []
        question = Question((Message("user", "Hello"),), Sampling(max_tokens=200, temperature=1.0))
        answer = chat.answer(question, pieces.append, lambda: len(pieces) >= 3)
        assert answer.finish_reason == "cancelled"
        assert len(pieces) == 3
        assert answer.generated_tokens < 20

    def test_cancelled_before_the_first_token_it_is_empty(self, chat: ChatModel) -> None:
        question = Question((Message("user", "Hello"),), Sampling())
        answer = chat.answer(question, lambda _: None, lambda: True)
        assert (answer.finish_reason, answer.text, answer.generated_tokens) == ("cancelled", "", 0)

    def test_the_next_answer_is_complete(self, chat: ChatModel) -> None:
        before = ask(chat)
        question = Question((Message("user", "Hello"),), Sampling())
        chat.answer(question, lambda _: None, lambda: True)
        assert ask(chat).text == before.text


class TestRefusals:
    @pytest.mark.parametrize(
        ("name", "value"),
        [
            ("temperature", -0.1),
            ("temperature", float("nan")),
            ("top_p", 0.0),
            ("top_p", 1.5),
            ("top_k", 100_000),
            ("top_k", -1),
            ("min_p", 1.5),
            ("repetition_penalty", 0.0),
            ("max_tokens", 0),
            ("seed", -1),
        ],
    )
    def test_invalid_sampling_is_reported(self, chat: ChatModel, name: str, value: float) -> None:
        with pytest.raises(ModelError, match=f"^{name} is .*; it must be .*\\.$"):
            ask(chat, **{name: value})

    def test_a_refusal_does_not_change_later_answers(self, chat: ChatModel) -> None:
        before = ask(chat, temperature=1.0, top_k=5).text
        with pytest.raises(ModelError):
            ask(chat, temperature=1.0, top_k=100_000)
        assert ask(chat, temperature=1.0, top_k=5).text == before

    def test_a_conversation_longer_than_the_context(self, chat: ChatModel) -> None:
        with pytest.raises(ModelError, match="tokens and the model's context is 512"):
            ask(chat, "word " * 600)

    def test_an_answer_stays_within_the_context(self, chat: ChatModel) -> None:
        answer = ask(chat, "a" * 480, max_tokens=5000)
        assert answer.finish_reason == "length"
        assert answer.prompt_tokens + answer.generated_tokens == 512

    def test_an_empty_conversation(self, chat: ChatModel) -> None:
        with pytest.raises(ModelError, match="conversation is empty"):
            chat.answer(Question(()), lambda _: None, lambda: False)

    def test_a_conversation_rejected_by_the_template(self, tmp_path: Path) -> None:
        template = "{{ raise_exception('roles must alternate') }}"
        model = ChatModel(make_tiny_model(tmp_path / "strict", chat_template=template))
        with pytest.raises(ModelError, match=r"template rejects .*roles must alternate"):
            ask(model)


class TestAdapters:
    @pytest.mark.parametrize("kind", ["lora", "dora", "full"])
    def test_a_runs_adapter_and_the_base_answer(
        self, chat: ChatModel, make_run: MakeRun, kind: str
    ) -> None:
        run = make_run(f"fine_tune_type={kind}", "learning_rate=0.05", "iters=8")
        session = run.session()
        session.prepare()
        session.run()
        question = Question((Message("user", "Turn on the lamp."),), Sampling(max_tokens=12))
        trained = ask_session(session, question)
        base = ask(chat).text

        chat.load(run.directory.path)
        assert ask(chat).text == trained != base
        assert ask(chat, use_adapter=False).text == base
        assert ask(chat).text == trained
        chat.load(None)
        assert ask(chat).text == base

    def test_a_checkpoint_answers(self, chat: ChatModel, make_run: MakeRun) -> None:
        run = make_run("learning_rate=0.05", "save_every=2", "iters=8")
        run.train()
        chat.load(run.directory.path)
        last = ask(chat).text
        chat.load(run.directory.numbered_adapter_file(2))
        assert ask(chat).text != last

    def test_a_changed_adapter_is_read_again(self, chat: ChatModel, make_run: MakeRun) -> None:
        run, other = make_run(), make_run("learning_rate=0.05", "iters=8")
        run.train()
        other.train()
        chat.load(run.directory.path)
        before = ask(chat).text
        shutil.copy(other.directory.adapter_file, run.directory.adapter_file)
        chat.load(run.directory.path)
        assert ask(chat).text != before

    def test_a_run_without_an_adapter_is_reported(self, chat: ChatModel, make_run: MakeRun) -> None:
        with pytest.raises(ModelError, match="there is no saved adapter yet"):
            chat.load(make_run().directory.path)

    def test_an_adapter_of_another_model_is_reported(
        self, make_run: MakeRun, tmp_path: Path
    ) -> None:
        run = make_run("iters=1")
        run.train()
        other = ChatModel(make_tiny_model(tmp_path / "other", hidden_size=48))
        with pytest.raises(ModelError, match="adapter is of another model"):
            other.load(run.directory.path)

    def test_an_adapter_without_a_configuration_is_reported(
        self, chat: ChatModel, make_run: MakeRun
    ) -> None:
        run = make_run("iters=1")
        run.train()
        run.directory.adapter_config_file.unlink()
        with pytest.raises(ModelError, match=r"it has no valid adapter_config\.json"):
            chat.load(run.directory.path)
