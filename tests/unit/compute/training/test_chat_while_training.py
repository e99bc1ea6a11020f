"""Answers between two steps of a run."""

from __future__ import annotations

from pathlib import Path

import mlx_lm
import pytest

from mlxft.compute.generation.answers import Listener
from mlxft.compute.training.session import TrainingSession
from mlxft.conversation.messages import Message, Question, Sampling
from mlxft.errors import EngineError
from mlxft.runs import events as ev
from support.training import MakeRun, ask_session

QUESTION = Question((Message("user", "Turn on the lamp."),), Sampling(max_tokens=4))


class TestChatWhileTraining:
    @pytest.mark.parametrize("kind", ["lora", "dora", "full"])
    def test_it_doesnt_change_the_run(self, make_run: MakeRun, kind: str) -> None:
        settings = (f"fine_tune_type={kind}", "lora_parameters.dropout=0.2", "val_batches=-1")
        quiet, talking = make_run(*settings), make_run(*settings)
        sampling = Sampling(temperature=1.0, max_tokens=3)

        def visit(session: TrainingSession) -> None:
            if session.step == 0 and not talking.of(ev.ModelLoaded):
                return
            for use_adapter in (True, False):
                question = Question(QUESTION.messages, sampling, use_adapter)
                ask_session(session, question)
            silent = Listener(lambda _: None, lambda: False)
            session.answer_together([(QUESTION, quiet.directory.path, silent)])

        quiet.train()
        talking.train(visit)
        assert quiet.losses == talking.losses
        assert quiet.adapter() == talking.adapter()

    @pytest.mark.parametrize("kind", ["lora", "dora", "full"])
    def test_the_base_answers_like_the_untrained_model(
        self, make_run: MakeRun, tiny_model: Path, kind: str
    ) -> None:
        run = make_run(f"fine_tune_type={kind}", "learning_rate=0.05", "iters=8")
        session = run.session()
        session.prepare()
        session.run()

        def ask(use_adapter: bool) -> str:
            question = Question(QUESTION.messages, Sampling(max_tokens=12), use_adapter)
            return ask_session(session, question)

        model, tokenizer = mlx_lm.load(str(tiny_model))
        prompt = tokenizer.apply_chat_template(
            [{"role": "user", "content": "Turn on the lamp."}], add_generation_prompt=True
        )
        expected = mlx_lm.generate(model, tokenizer, prompt, max_tokens=12)
        tuned = ask(True)
        assert ask(False) == expected
        assert tuned != expected
        assert ask(True) == tuned

    def test_there_is_no_answer_before_the_model(self, make_run: MakeRun) -> None:
        with pytest.raises(EngineError, match="still loading"):
            ask_session(make_run().session(), QUESTION)
