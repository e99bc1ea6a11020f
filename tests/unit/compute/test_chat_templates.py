"""Chat templates of well-known model families: what is trained, and what the view shows."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from mlxft.compute.tokenization import Tokenizer, load_tokenizer, token_view, tokenize
from mlxft.compute.training.batches import BatchArrays, tokenize_split
from mlxft.data.dataset import Record, Split, require_trainable
from mlxft.data.index import LineIndex
from mlxft.data.spans import Span
from mlxft.errors import DataError
from mlxft.recipe import Overlong, Recipe, TrainOn
from support.chat_templates import FAMILIES, Family, make_family

CONVERSATION: dict[str, Any] = {
    "messages": [
        {"role": "user", "content": "Turn on the lamp."},
        {"role": "assistant", "content": "The lamp is on."},
        {"role": "user", "content": "And the heating?"},
        {"role": "assistant", "content": "The heating is on."},
    ]
}
WITH_SYSTEM = {"messages": [{"role": "system", "content": "Be brief."}, *CONVERSATION["messages"]]}


@pytest.fixture(scope="module", params=FAMILIES, ids=lambda family: family.name)
def family(request: pytest.FixtureRequest) -> Family:
    found: Family = request.param
    return found


@pytest.fixture(scope="module")
def tokenizer(family: Family, tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    return load_tokenizer(make_family(tmp_path_factory.mktemp("family"), family), False)


LAST = Recipe(train_on="last_answer")


def trained_text(tokenizer: Tokenizer, fields: dict[str, Any]) -> str:
    (record,) = tokenize(tokenizer, fields, LAST)
    (trained,) = record.spans
    return str(tokenizer.decode(list(record.tokens[trained.start : trained.stop])))


class TestWhatIsTrained:
    def test_a_masked_conversation_trains_its_last_answer_and_the_end(
        self, family: Family, tokenizer: Tokenizer
    ) -> None:
        trained = trained_text(tokenizer, CONVERSATION)
        assert trained.strip().endswith("The heating is on." + family.end) or (
            not family.ends_answers
        )
        assert "The heating is on." in trained
        assert trained.rstrip().endswith(family.end)
        for earlier in ("lamp", "And the heating?"):
            assert earlier not in trained

    def test_nothing_is_masked_by_default(self, tokenizer: Tokenizer) -> None:
        record = tokenize(tokenizer, CONVERSATION, Recipe())[0]
        assert record.spans == (Span(1, len(record.tokens)),)

    def test_a_prompt_that_doesnt_begin_the_record_is_reported(
        self, family: Family, tokenizer: Tokenizer
    ) -> None:
        record = tokenize(tokenizer, CONVERSATION, LAST)[0]
        assert record.prompt_is_prefix is family.prompt_is_prefix

    def test_an_answer_without_an_end_gets_one(self, family: Family, tokenizer: Tokenizer) -> None:
        record = tokenize(tokenizer, CONVERSATION, LAST)[0]
        assert record.end_added is not family.ends_answers
        ends = [token for token in record.tokens[-2:] if token == tokenizer.eos_token_id]
        assert len(ends) == 1

    def test_a_system_message_is_accepted_or_refused_with_a_remedy(
        self, family: Family, tokenizer: Tokenizer
    ) -> None:
        if family.takes_system:
            assert "The heating is on." in trained_text(tokenizer, WITH_SYSTEM)
        else:
            with pytest.raises(DataError, match="move the system message into the user's message"):
                tokenize(tokenizer, WITH_SYSTEM, LAST)


COMPLETION = {"prompt": "Turn on the lamp.", "completion": "The lamp is on."}
TEXT = {"text": "The lamp is on."}
CASES = (
    (CONVERSATION, "last_answer"),
    (CONVERSATION, "everything"),
    (COMPLETION, "last_answer"),
    (COMPLETION, "everything"),
    (TEXT, "everything"),
)


@pytest.mark.parametrize(("fields", "train_on"), CASES)
class TestTheView:
    def test_it_marks_exactly_the_trained_tokens(
        self, tokenizer: Tokenizer, fields: dict[str, Any], train_on: TrainOn
    ) -> None:
        recipe = Recipe(train_on=train_on, batch_size=1)
        batch = trained_by(tokenizer, fields, recipe)[0]
        view = token_view(tokenizer, fields, recipe)
        targets = {at + 1 for at in batch.positions[: batch.target_count.item()].tolist()}
        tokens = batch.tokens[0].tolist()
        assert [piece.id for piece in view.pieces] == tokens[: len(view.pieces)]
        assert {at for at, piece in enumerate(view.pieces) if piece.trained} == targets

    @pytest.mark.parametrize("overlong", ["truncate", "split", "drop"])
    @pytest.mark.parametrize("limit", [16, 40])
    def test_it_marks_what_remains_of_a_long_record(
        self,
        tokenizer: Tokenizer,
        fields: dict[str, Any],
        train_on: TrainOn,
        limit: int,
        overlong: Overlong,
    ) -> None:
        recipe = Recipe(train_on=train_on, batch_size=1, max_seq_length=limit, overlong=overlong)
        trained = [
            batch.tokens[:, 1:].reshape(-1)[position].item()
            for batch in trained_by(tokenizer, fields, recipe)
            for position in batch.positions[: batch.target_count.item()].tolist()
        ]
        view = token_view(tokenizer, fields, recipe)
        assert sorted(piece.id for piece in view.pieces if piece.trained) == sorted(trained)
        assert all(piece.kept for piece in view.pieces if piece.trained)


class TestAllAnswers:
    def test_each_is_trained_as_the_last_of_its_conversation(
        self, family: Family, tokenizer: Tokenizer
    ) -> None:
        """With the end that a model has to write, and without whitespace after it."""
        fields = WITH_SYSTEM if family.takes_system else CONVERSATION
        records = tokenize(tokenizer, fields, Recipe(train_on="all_answers"))
        found = [(each.tokens[: span.stop], span) for each in records for span in each.spans]
        assert len(found) == 2
        messages = fields["messages"]
        for (tokens, span), stop in zip(found, (-2, None), strict=True):
            (alone,) = tokenize(tokenizer, {"messages": messages[:stop]}, LAST)
            assert span.start == alone.spans[0].start
            assert tokens == alone.tokens[: span.stop] or not family.ends_answers
            assert not tokenizer.decode(list(alone.tokens[span.stop :])).strip()


def trained_by(tokenizer: Tokenizer, fields: dict[str, Any], recipe: Recipe) -> list[BatchArrays]:
    """The trainer's batches of one record."""
    split = Split("train", Path("train.jsonl"), (Record(1, fields),), ())
    whole = tokenize_split(tokenizer, split, recipe, seed=0)
    return [whole.arrays(batch) for batch in whole.plan.epoch(0)]


CALL = {"name": "switch", "arguments": {"what": "lamp"}}
TOOLS = [{"type": "function", "function": {"name": "switch", "parameters": {}}}]
ASKED, ANSWERED = (
    {"role": "user", "content": "Turn on the lamp."},
    {"role": "assistant", "content": "The lamp is on."},
)
SHARED = [
    {"from": "human", "value": "Turn on the lamp."},
    {"from": "gpt", "value": "The lamp is on."},
]
WRITTEN: dict[str, dict[str, Any]] = {
    "prompt and completion": COMPLETION,
    "prompt and completion with a system": {**COMPLETION, "system": "Be brief."},
    "messages": CONVERSATION,
    "messages with a system": WITH_SYSTEM,
    "messages in parts": {
        "messages": [{"role": "user", "content": [{"type": "text", "text": "On?"}]}, ANSWERED]
    },
    "messages with tools": {
        "tools": TOOLS,
        "messages": [
            ASKED,
            {
                "role": "assistant",
                "content": "",
                "tool_calls": [{"type": "function", "function": CALL}],
            },
            {"role": "tool", "content": "done"},
            ANSWERED,
        ],
    },
    "messages that end with a call": {
        "messages": [ASKED, {"role": "assistant", "content": "So:", "function_call": CALL}]
    },
    "text": TEXT,
    "Alpaca": {"instruction": "Turn it on.", "input": "the lamp", "output": "It is on."},
    "Alpaca with a history": {
        "instruction": "And off.",
        "output": "It is off.",
        "system": "Be brief.",
        "history": [["Turn on the lamp.", "It is on."]],
    },
    "ShareGPT": {"conversations": SHARED},
    "ShareGPT with a call": {
        "tools": "[]",
        "conversations": [
            SHARED[0],
            {"from": "function_call", "value": '{"name": "switch", "arguments": {}}'},
            {"from": "observation", "value": "done"},
            SHARED[1],
        ],
    },
    "ChatML": {
        "text": "<|im_start|>user\nOn?<|im_end|>\n<|im_start|>assistant\nIt is on.<|im_end|>\n"
    },
    "question and answer": {"question": "On?", "answer": "It is on."},
    "preference": {"prompt": "On?", "chosen": "It is on.", "rejected": "No."},
    "preference of conversations": {"chosen": [ASKED, ANSWERED], "rejected": [ASKED, ANSWERED]},
}


@pytest.mark.parametrize("train_on", ["everything", "last_answer"])
@pytest.mark.parametrize("name", WRITTEN)
class TestEveryFormat:
    def test_the_view_marks_what_is_trained(
        self, tokenizer: Tokenizer, tmp_path: Path, name: str, train_on: TrainOn
    ) -> None:
        """The trainer and the screen read the file alike and refuse the same."""
        path = tmp_path / "train.jsonl"
        path.write_text(json.dumps(WRITTEN[name]) + "\n")
        recipe = Recipe(train_on=train_on, batch_size=1, faulty_records="refuse")
        try:
            train, _ = require_trainable(tmp_path, recipe)
            whole = tokenize_split(tokenizer, train, recipe, seed=0)
            (batch,) = (whole.arrays(each) for each in whole.plan.epoch(0))
        except DataError:
            with pytest.raises(DataError):
                token_view(tokenizer, shown(path), recipe)
            return
        view = token_view(tokenizer, shown(path), recipe)
        targets = {at + 1 for at in batch.positions[: batch.target_count.item()].tolist()}
        assert [piece.id for piece in view.pieces] == batch.tokens[0].tolist()[: len(view.pieces)]
        assert {at for at, piece in enumerate(view.pieces) if piece.trained} == targets


def shown(path: Path) -> dict[str, Any]:
    """The first record as the Data screen sends it."""
    with LineIndex(path) as index:
        list(index.build())
        line = index.line(0)
    assert line.fields is not None
    assert not line.faults
    return line.fields


class TestThinking:
    def test_an_answers_own_reasoning_is_trained_with_it(
        self, family: Family, tokenizer: Tokenizer
    ) -> None:
        said = "<think>\nIt is cold.\n</think>\n\nThe heating is on."
        fields = {"prompt": "And the heating?", "completion": said}
        trained = trained_text(tokenizer, fields)
        assert "It is cold." in trained
        assert "And the heating?" not in trained
