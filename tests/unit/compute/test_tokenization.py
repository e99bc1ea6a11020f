"""Records as tokens."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
import tokenizers
from mlx_lm.tuner.datasets import ChatDataset, CompletionsDataset, TextDataset
from tokenizers.processors import TemplateProcessing

from mlxft import recipe as recipes
from mlxft.compute.tokenization import (
    Tokenizer,
    dated,
    load_tokenizer,
    token_view,
    tokenize,
)
from mlxft.data.spans import Span
from mlxft.errors import DataError, ModelError
from mlxft.recipe import Recipe, TrainOn
from support.models import CHAT_TEMPLATE, make_tiny_model, record

LAST = Recipe(train_on="last_answer")
CONVERSATION = {
    "messages": [
        {"role": "system", "content": "You turn things on."},
        {"role": "user", "content": "Turn on the lamp."},
        {"role": "assistant", "content": "The lamp is on."},
        {"role": "user", "content": "And the heating."},
        {"role": "assistant", "content": "The heating is on."},
    ]
}


@pytest.fixture(scope="module")
def tokenizer(tiny_model: Path) -> Tokenizer:
    return load_tokenizer(tiny_model, False)


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    folder = tmp_path_factory.mktemp("plain")
    return load_tokenizer(make_tiny_model(folder, chat_template=None), False)


def trained_text(tokenizer: Tokenizer, fields: dict[str, Any]) -> str:
    view = token_view(tokenizer, fields, LAST)
    return "".join(piece.text for piece in view.pieces if piece.trained)


class TestTokenize:
    @pytest.mark.parametrize("train_on", ["everything", "last_answer"])
    def test_completions_equal_mlx_lms(self, tokenizer: Tokenizer, train_on: TrainOn) -> None:
        masks = train_on == "last_answer"
        theirs = CompletionsDataset([], tokenizer, "prompt", "completion", masks)
        tokens, offset = theirs.process(record(2))
        ours = tokenize(tokenizer, record(2), Recipe(train_on=train_on))[0]
        assert list(ours.tokens) == tokens
        assert ours.spans == (Span(max(1, offset), len(ours.tokens)),)

    @pytest.mark.parametrize("train_on", ["everything", "last_answer"])
    def test_conversations_equal_mlx_lms(self, tokenizer: Tokenizer, train_on: TrainOn) -> None:
        theirs = ChatDataset([], tokenizer, mask_prompt=train_on == "last_answer")
        tokens, offset = theirs.process(CONVERSATION)
        ours = tokenize(tokenizer, CONVERSATION, Recipe(train_on=train_on))[0]
        assert list(ours.tokens) == tokens
        assert ours.spans == (Span(max(1, offset), len(ours.tokens)),)

    def test_text_equals_mlx_lms_with_its_end(self, tokenizer: Tokenizer) -> None:
        for text in ("Turn on the lamp.", "Turn on the lamp.<|im_end|>"):
            tokens, _ = TextDataset([], tokenizer).process({"text": text})
            assert list(tokenize(tokenizer, {"text": text}, Recipe())[0].tokens) == tokens

    def test_tools_reach_the_template(self, tmp_path: Path) -> None:
        template = "{% for tool in tools or [] %}{{ tool['name'] }}{% endfor %}" + CHAT_TEMPLATE
        tokenizer = load_tokenizer(make_tiny_model(tmp_path, chat_template=template), False)
        fields = {**CONVERSATION, "tools": [{"name": "switch"}]}
        view = token_view(tokenizer, fields, LAST)
        assert view.templated.startswith("switch<|im_start|>system")
        assert "".join(piece.text for piece in view.pieces) == view.templated

    def test_without_a_template_the_texts_are_joined_and_ended(self, plain: Tokenizer) -> None:
        fields = {"prompt": "Turn on", "completion": " the lamp"}
        view = token_view(plain, fields, LAST)
        assert view.templated == "Turn on the lamp"
        assert trained_text(plain, fields) == " the lamp<|im_end|>"

    def test_a_refusal_by_the_template_names_the_record(self, tmp_path: Path) -> None:
        template = "{{ raise_exception('no system message, please') }}"
        tokenizer = load_tokenizer(make_tiny_model(tmp_path, chat_template=template), False)
        with pytest.raises(DataError, match=r"^train\.jsonl line 3: .*no system message"):
            tokenize(tokenizer, record(0), Recipe(), "train.jsonl line 3")


class TestMaskedPrompt:
    def test_only_the_last_answer_is_trained(self, tokenizer: Tokenizer) -> None:
        assert trained_text(tokenizer, CONVERSATION) == "The heating is on.<|im_end|>\n"

    def test_an_answer_opened_by_the_template_alone_is_still_trained(self, tmp_path: Path) -> None:
        """The generation prompt has words that a finished answer doesn't have."""
        template = CHAT_TEMPLATE.replace("assistant\\n' }}", "assistant\\nI reason:\\n' }}")
        tokenizer = load_tokenizer(make_tiny_model(tmp_path, chat_template=template), False)
        assert trained_text(tokenizer, CONVERSATION) == "The heating is on.<|im_end|>\n"


class TestTokenView:
    def test_the_pieces_make_up_the_text(self, tokenizer: Tokenizer) -> None:
        fields = {"prompt": "Hé, 12 🙂?", "completion": " done\n"}
        view = token_view(tokenizer, fields, Recipe(train_on="everything", max_seq_length=2048))
        assert "".join(piece.text for piece in view.pieces) == view.templated

    def test_the_first_token_is_no_target(self, tokenizer: Tokenizer) -> None:
        view = token_view(tokenizer, record(0), Recipe(train_on="everything", max_seq_length=2048))
        assert [piece.trained for piece in view.pieces[:3]] == [False, True, True]

    def test_truncated_tokens_are_neither_kept_nor_trained(self, tokenizer: Tokenizer) -> None:
        view = token_view(tokenizer, record(0), Recipe(train_on="last_answer", max_seq_length=40))
        assert sum(piece.kept for piece in view.pieces) == 40
        assert not any(piece.trained for piece in view.pieces if not piece.kept)

    def test_it_counts_as_the_trainer_does(self, tokenizer: Tokenizer) -> None:
        for limit in (20, 50, 2048):
            view = token_view(tokenizer, record(1), recipes.replace(LAST, "max_seq_length", limit))
            (piece,) = tokenize(tokenizer, record(1), LAST)[0].pieces(limit, "truncate")
            assert sum(each.trained for each in view.pieces) == piece.trained
            assert sum(each.kept for each in view.pieces) == piece.length

    def test_special_tokens_have_their_names(self, tokenizer: Tokenizer) -> None:
        view = token_view(tokenizer, record(0), Recipe(train_on="everything", max_seq_length=2048))
        special = {piece.text for piece in view.pieces if piece.special}
        assert special == {"<|im_start|>", "<|im_end|>"}

    @pytest.mark.parametrize(
        "fields",
        [{}, {"prompt": "a"}, {"messages": []}, {"text": ""}, {"prompt": 1, "completion": "b"}],
    )
    def test_a_faulty_record_is_one_sentence(
        self, tokenizer: Tokenizer, fields: dict[str, Any]
    ) -> None:
        with pytest.raises(DataError, match=r"^This record: .*\.$"):
            token_view(tokenizer, fields, Recipe(train_on="everything", max_seq_length=2048))

    def test_a_text_has_no_prompt_to_mask(self, tokenizer: Tokenizer) -> None:
        with pytest.raises(DataError, match="set train_on to everything"):
            token_view(tokenizer, {"text": "abc"}, LAST)


class TestLoadTokenizer:
    def test_broken_files_are_one_sentence(self, tmp_path: Path) -> None:
        folder = make_tiny_model(tmp_path / "broken")
        (folder / "tokenizer.json").write_text("{}")
        with pytest.raises(ModelError, match="the tokenizer can't be loaded"):
            load_tokenizer(folder, False)

    def test_every_end_token_of_the_configuration_counts(self, tmp_path: Path) -> None:
        folder = make_tiny_model(tmp_path / "ends", eos_token_id=[0, 2])
        assert load_tokenizer(folder, False).eos_token_ids == {0, 2}


LAMP: dict[str, Any] = {"name": "dim", "arguments": {"lamp": 3}}
DIM = {"type": "function", "function": LAMP}
DIMMING: dict[str, Any] = {
    "messages": [
        {"role": "user", "content": "Dim it."},
        {"role": "assistant", "content": "", "tool_calls": [DIM]},
        {"role": "tool", "content": "done"},
        {"role": "assistant", "content": "It is dim."},
    ]
}
TURNS = "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
OPEN = "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
CALLS = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}"
    "{% for c in m.tool_calls or [] %}CALL{% endfor %}<|im_end|>\n{% endfor %}"
)


class TestTemplatesThatDiffer:
    """Templates want calls and reasoning in different forms."""

    def tokenizer(self, folder: Path, template: str) -> Tokenizer:
        return load_tokenizer(make_tiny_model(folder, chat_template=template), False)

    def templated(self, folder: Path, template: str, fields: dict[str, Any]) -> str:
        tokenizer = self.tokenizer(folder, template)
        view = token_view(tokenizer, fields, Recipe(max_seq_length=2048))
        assert not [note for note in view.notes if "leaves out" in note]
        return view.templated

    def test_arguments_are_an_object(self, tmp_path: Path) -> None:
        template = CALLS.replace("CALL", "{{ c.function.name }}{{ c.function.arguments | tojson }}")
        assert 'dim{"lamp": 3}' in self.templated(tmp_path, template + OPEN, DIMMING)

    def test_or_text_where_the_template_needs_it(self, tmp_path: Path) -> None:
        template = CALLS.replace("CALL", "{{ c.function.name + '=' + c.function.arguments }}")
        assert 'dim={"lamp":3}' in self.templated(tmp_path, template + OPEN, DIMMING)

    def test_call_ids_are_made_where_the_template_needs_them(self, tmp_path: Path) -> None:
        refuse = "{% if c.id is not defined %}{{ raise_exception('no id') }}{% endif %}"
        result = "{% if m.role == 'tool' %}of {{ m.tool_call_id }}{% endif %}"
        template = CALLS.replace("CALL", refuse + "{{ c.id }}{{ c.function | tojson }}")
        template = template.replace("<|im_end|>", result + "<|im_end|>")
        found = self.templated(tmp_path, template + OPEN, DIMMING)
        assert "call00001{" in found
        assert "of call00001" in found

    def test_reasoning_is_found_under_another_key(self, tmp_path: Path) -> None:
        turns = [*DIMMING["messages"][:1], {**DIMMING["messages"][3], "reasoning_content": "Hm."}]
        template = TURNS.replace("{{ m.content }}", "{{ m.thinking }}{{ m.content }}")
        assert "Hm.It is dim." in self.templated(tmp_path, template + OPEN, {"messages": turns})

    def test_contents_are_parts_where_the_template_needs_them(self, tmp_path: Path) -> None:
        """Templates of vision models drop a content that is a text."""
        parts = "{% for p in m.content if p is mapping %}{{ p.text }}{% endfor %}"
        template = TURNS.replace("{{ m.content }}", parts)
        found = self.templated(tmp_path, template + OPEN, CONVERSATION)
        assert "assistant\nThe heating is on.<|im_end|>" in found

    def test_what_is_left_out_is_named(self, tmp_path: Path) -> None:
        turns = [*DIMMING["messages"][:2], {**DIMMING["messages"][3], "reasoning_content": "Hm."}]
        view = token_view(
            self.tokenizer(tmp_path, TURNS + OPEN), {"messages": turns}, Recipe(max_seq_length=2048)
        )
        (note,) = (each for each in view.notes if "leaves out" in each)
        assert note == "The chat template leaves out the tool calls and reasoning of this record."

    def test_a_system_message_in_open_prompts_only_is_trained_as_there(
        self, tmp_path: Path
    ) -> None:
        """As with Mistral 7B v0.3, which writes it into the last message of a user."""
        template = (
            "{% set s = messages[0].content if messages[0].role == 'system' else '' %}"
            "{% for m in messages %}{% if m.role == 'user' %}[INST]"
            "{% if loop.last and s %}{{ s }} {% endif %}{{ m.content }}[/INST]"
            "{% elif m.role == 'assistant' %}{{ m.content }}<|im_end|>{% endif %}{% endfor %}"
        )
        turns = [{"role": "system", "content": "Be kind."}, *CONVERSATION["messages"][1:3]]
        tokenizer = self.tokenizer(tmp_path, template)
        fields = {"messages": turns}
        view = token_view(tokenizer, fields, LAST)
        assert view.templated == (
            "[INST]Be kind. Turn on the lamp.[/INST]The lamp is on.<|im_end|>"
        )
        assert trained_text(tokenizer, fields) == "The lamp is on.<|im_end|>"


class TestFlaggedAnswers:
    """Answers that a record marks as not to be trained."""

    def trained(self, tokenizer: Tokenizer, *answers: str, train_on: TrainOn = "everything") -> str:
        turns = []
        for answer in answers:
            flag = {"weight": 0} if answer.startswith("bad") else {}
            turns += [
                {"role": "user", "content": "Turn on the lamp."},
                {"role": "assistant", "content": answer, **flag},
            ]
        recipe = Recipe(train_on=train_on, max_seq_length=2048)
        view = token_view(tokenizer, {"messages": turns}, recipe)
        return "".join(piece.text for piece in view.pieces if piece.trained)

    def test_one_before_the_last_is_masked(self, tokenizer: Tokenizer) -> None:
        choices: tuple[TrainOn, ...] = ("last_answer", "all_answers", "everything")
        last, every, whole = (
            self.trained(tokenizer, "bad", "good", train_on=each) for each in choices
        )
        assert last == "good<|im_end|>\n"
        assert every == "good<|im_end|>"
        assert "bad" not in whole
        assert whole.count("Turn on the lamp.") == 2

    def test_everything_after_the_last_trained_answer_is_dropped(
        self, tokenizer: Tokenizer
    ) -> None:
        found = self.trained(tokenizer, "one", "two", "bad")
        assert found.endswith("two<|im_end|>\n")
        assert "one" in found
        assert "bad" not in found

    def test_answers_around_a_flagged_one_are_trained(self, tokenizer: Tokenizer) -> None:
        found = self.trained(tokenizer, "one", "bad", "two", "three", train_on="all_answers")
        assert found == "one<|im_end|>two<|im_end|>three<|im_end|>"


class TestTexts:
    def test_a_text_that_has_its_end_gets_no_second_one(self, tokenizer: Tokenizer) -> None:
        for text in ("Turn on the lamp.<|im_end|>", "Turn on the lamp.<|im_end|>\n"):
            tokens = tokenize(tokenizer, {"text": text}, Recipe())[0].tokens
            assert list(tokens).count(tokenizer.eos_token_id) == 1

    @pytest.fixture(scope="class")
    def beginning(self, tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
        """A tokenizer that puts its beginning token before every text, as Llama's does."""
        folder = make_tiny_model(tmp_path_factory.mktemp("beginning"), chat_template=None)
        file = folder / "tokenizer.json"
        made = tokenizers.Tokenizer.from_file(str(file))
        begin = ("<|im_start|>", made.token_to_id("<|im_start|>"))
        made.post_processor = TemplateProcessing(  # type: ignore[assignment]
            single="<|im_start|> $A", special_tokens=[begin]
        )
        made.save(str(file))
        return load_tokenizer(folder, False)

    def test_a_text_that_has_its_beginning_gets_no_second_one(self, beginning: Tokenizer) -> None:
        whole = tokenize(beginning, {"text": "<|im_start|>A lamp.<|im_end|>"}, Recipe())[0]
        assert whole.tokens == tokenize(beginning, {"text": "A lamp."}, Recipe())[0].tokens
        assert list(whole.tokens).count(beginning.bos_token_id) == 1
        assert not whole.doubled

    @pytest.mark.parametrize(
        ("text", "notes"),
        [
            ("A lamp.", ()),
            ("<|im_start|>A lamp.", ("own",)),
            ("A lamp.<|im_end|>\n", ("own",)),
            ("<|im_start|><|im_start|>A lamp.", ("two", "own")),
            ("A lamp.<|im_end|>\n<|im_end|>", ("two", "own")),
        ],
    )
    def test_what_a_text_brings_of_its_own_is_noted(
        self, beginning: Tokenizer, text: str, notes: tuple[str, ...]
    ) -> None:
        found = token_view(beginning, {"text": text}, Recipe()).notes
        assert len(found) == len(notes)
        assert all(part in note for part, note in zip(notes, found, strict=True))

    def test_a_beginning_that_the_first_message_repeats_is_noted(self, tmp_path: Path) -> None:
        template = "{{ bos_token }}{% for m in messages %}{{ m.content }}{% endfor %}"
        tokenizer = load_tokenizer(make_tiny_model(tmp_path, chat_template=template), False)
        fields = {"prompt": "<|im_start|>A lamp?", "completion": "Yes.<|im_end|>"}
        assert tokenize(tokenizer, fields, Recipe())[0].doubled
        assert not tokenize(tokenizer, {**fields, "prompt": "A lamp?"}, Recipe())[0].doubled


class TestDates:
    @pytest.mark.parametrize(
        ("written", "found"),
        [
            ("strftime_now('%d %b %Y')", "01 Mar 2026"),
            ("strftime_now(format)", "1 March, 100%"),
            ("'On ' + strftime_now('%Y') + '.'", "On 2026."),
            ("strftime_now('%d') | int + 1 if strftime_now is defined else 0", "2"),
        ],
    )
    def test_the_template_writes_the_given_date(
        self, tmp_path: Path, written: str, found: str
    ) -> None:
        start = "\n{% set format = '%-d %B, 100%%' %}{{ " + written + " }}\n"
        folder = make_tiny_model(tmp_path, chat_template=start + CHAT_TEMPLATE)
        tokenizer = dated(load_tokenizer(folder, False), datetime(2026, 3, 1))
        view = token_view(tokenizer, CONVERSATION, Recipe(max_seq_length=2048))
        assert view.templated.startswith(f"\n{found}\n<|im_start|>")

    def test_it_is_noted(self, tmp_path: Path) -> None:
        template = "{{ strftime_now('%d %b %Y') }} " + CHAT_TEMPLATE
        folder = make_tiny_model(tmp_path, chat_template=template)
        view = token_view(load_tokenizer(folder, False), CONVERSATION, Recipe())
        assert "The chat template writes the current date; a run keeps that of its start." in (
            view.notes
        )
