"""Records that the model can't take: tokens without an embedding, more tokens than positions."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tokenizers import AddedToken, Tokenizer

from mlxft.compute.generation.chat_model import ChatModel
from mlxft.conversation.messages import Message, Question, Sampling
from mlxft.data.model_limits import ModelLimits, limits_of
from mlxft.errors import DataError, ModelError
from mlxft.memory.local_config import local_config
from mlxft.runs import events as ev
from support.models import make_tiny_model, record
from support.training import MakeRun, write_records


@pytest.fixture
def foreign(tmp_path: Path) -> Path:
    """A model whose tokenizer has a token more than its embedding."""
    folder = make_tiny_model(tmp_path / "foreign")
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.add_special_tokens([AddedToken("<tool>", special=True)])
    tokenizer.save(str(folder / "tokenizer.json"))
    return folder


class TestVocabulary:
    @pytest.fixture
    def data(self, tmp_path: Path) -> Path:
        tool = {"prompt": "Turn on the lamp.", "completion": "<tool>on"}
        return write_records(tmp_path / "data", *map(record, range(8)), tool)

    def test_a_token_without_an_embedding_is_refused_with_its_line(
        self, make_run: MakeRun, foreign: Path, data: Path
    ) -> None:
        run = make_run(f"model={foreign}", f"data={data}", "faulty_records=refuse")
        with pytest.raises(DataError, match=r"line 9: the record has token \d+, .* vocab_size is"):
            run.train()

    def test_its_record_is_left_out_where_faulty_ones_are(
        self, make_run: MakeRun, foreign: Path, data: Path
    ) -> None:
        run = make_run(f"model={foreign}", f"data={data}", "faulty_records=leave_out")
        run.train()
        assert any("line 9: the record has token" in each.message for each in run.of(ev.Warned))

    def test_it_is_refused_in_a_conversation(self, foreign: Path) -> None:
        question = Question((Message("user", "Turn on the <tool>."),), Sampling(max_tokens=1))
        with pytest.raises(ModelError, match=r"has token \d+, .* vocab_size is"):
            ChatModel(foreign).answer(question, lambda _: None, lambda: False)


class TestPositions:
    @pytest.mark.parametrize(("limit", "warned"), [(2048, True), (20, False)])
    def test_longer_records_are_warned_of(
        self, make_run: MakeRun, tmp_path: Path, limit: int, warned: bool
    ) -> None:
        folder = make_tiny_model(tmp_path / "short", max_position_embeddings=20)
        run = make_run(f"model={folder}", f"max_seq_length={limit}", "iters=1")
        run.train()
        messages = [each.message for each in run.of(ev.Warned)]
        assert any("set max_seq_length to 20" in each for each in messages) == warned


class TestConfig:
    @pytest.mark.parametrize(
        ("config", "limits"),
        [
            ({"vocab_size": 9, "n_positions": 5}, ModelLimits(9, 5)),
            ({"text_config": {"vocab_size": 9, "max_position_embeddings": 7}}, ModelLimits(9, 7)),
            ({"vocab_size": None}, ModelLimits()),
            ([], ModelLimits()),
        ],
    )
    def test_limits_are_those_of_config_json(
        self, tmp_path: Path, config: object, limits: ModelLimits
    ) -> None:
        (tmp_path / "config.json").write_text(json.dumps(config))
        assert limits_of(tmp_path) == limits

    def test_infinity_is_read_as_models_do(self, make_run: MakeRun, tmp_path: Path) -> None:
        folder = make_tiny_model(tmp_path / "endless", time_step_limit=[0.0, float("inf")])
        assert local_config(str(folder))["time_step_limit"] == [0.0, float("inf")]
        assert limits_of(folder).positions == 512
        make_run(f"model={folder}", "iters=1").train()
