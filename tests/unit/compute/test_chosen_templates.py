"""A recipe's chat template and its variables, from the token view to an export."""

from __future__ import annotations

import json
import os
from pathlib import Path

import gguf
import pytest

from mlxft import recipe as recipes
from mlxft.compute.exporting.export import Job, export
from mlxft.compute.generation.chat_model import ChatModel
from mlxft.compute.token_lengths import measure
from mlxft.compute.tokenization import Tokenizer, load_tokenizer, render_prompt, token_view
from mlxft.compute.tokenization.templates import with_template
from mlxft.data.token_cache import keep_lengths, kept_lengths
from mlxft.data.token_statistics import TokenLengths
from mlxft.errors import MlxftError, ModelError, RecipeError
from mlxft.export.model_card import Origin
from mlxft.export.types import Form, Quantize
from mlxft.recipe import ChatTemplate, Recipe
from support.models import make_tiny_model
from support.training import MakeRun, Run

RECORD = {"prompt": "On?", "completion": "yes"}
POLITE = (
    "{% macro named(role) %}{{ role if plain else role | upper }}{% endmacro %}"
    "{% for m in messages %}[{{ named(m.role) }}]{{ m.content }}<|im_end|>{% endfor %}"
    "{% if add_generation_prompt %}[{{ named('assistant') }}]{% endif %}"
)


@pytest.fixture(scope="module")
def tokenizer(tiny_model: Path) -> Tokenizer:
    return load_tokenizer(tiny_model, False)


@pytest.fixture
def polite(tmp_path: Path) -> Path:
    file = tmp_path / "polite.jinja"
    file.write_text(POLITE)
    return file


def written(tokenizer: Tokenizer, *settings: str) -> str:
    """A record by the template of a recipe with these settings."""
    recipe = recipes.apply_settings(Recipe(), settings)
    return token_view(with_template(tokenizer, recipe.template), RECORD, recipe).templated


class TestChosenTemplate:
    def test_a_file_writes_the_records(self, tokenizer: Tokenizer, polite: Path) -> None:
        found = written(tokenizer, f"chat_template={polite}")
        assert found == "[USER]On?<|im_end|>[ASSISTANT]yes<|im_end|>"
        assert "im_start" in written(tokenizer)

    def test_variables_are_set_whatever_else_renders_the_template(
        self, tokenizer: Tokenizer, polite: Path
    ) -> None:
        chosen = ChatTemplate(template=str(polite), arguments={"plain": True})
        made = with_template(tokenizer, chosen)
        messages = [{"role": "user", "content": "On?"}]
        assert made.apply_chat_template(messages, tokenize=False, plain=False) == (
            "[user]On?<|im_end|>"
        )

    @pytest.mark.parametrize(
        "value", ["none", "true", "-1.5", '"a \\"quoted\\" 😀\\nline"', "[1, {a: b}]"]
    )
    def test_a_variable_has_the_value_that_the_recipe_says(
        self, tokenizer: Tokenizer, tmp_path: Path, value: str
    ) -> None:
        file = tmp_path / "shown.jinja"
        file.write_text("{{ shown | tojson }}{% for m in messages %}{{ m.content }}{% endfor %}")
        settings = (f"chat_template={file}", f"chat_template_args={{shown: {value}}}")
        recipe = recipes.apply_settings(Recipe(), settings)
        text = written(tokenizer, *settings).removesuffix("On?yes")
        assert json.loads(text) == recipe.chat_template_args["shown"] or value == "none"

    def test_a_base_model_gets_chatml(self, tmp_path: Path) -> None:
        plain = load_tokenizer(make_tiny_model(tmp_path / "m", chat_template=None), False)
        assert written(plain, "chat_template=chatml") == (
            "<|im_start|>user\nOn?<|im_end|>\n<|im_start|>assistant\nyes<|im_end|>\n"
        )

    def test_a_template_of_the_model_is_chosen_by_name(self, tmp_path: Path) -> None:
        folder = make_tiny_model(tmp_path / "m")
        named = load_tokenizer(folder, False)
        named.chat_template = {"default": named.chat_template, "short": POLITE}
        assert written(named, "chat_template=short").startswith("[USER]")
        assert written(named).startswith("<|im_start|>")

    @pytest.mark.parametrize(
        ("settings", "refusal"),
        [
            (["chat_template=gone.jinja"], r"gone\.jinja can't be read \(No such file"),
            (["chat_template=BROKEN"], r"BROKEN line 2: this is not valid Jinja \(.*'endfor'"),
            (["chat_template_args={messages: 1}"], "has messages, which is no variable"),
            (["chat_template_args={'none': 1}"], "has none, which is no variable"),
            (["chat_template_args={day: 2026-05-01}"], "put it in quotes"),
            (['chat_template_args={day: ["\\ud800"]}'], "put it in quotes"),
            (["chat_template=LARGE"], r"LARGE can't be read \(it has more than 1 MB\)"),
            (["chat_template=PIPE"], r"PIPE can't be read \(it is no file\)"),
            (["chat_template=RAISES"], r"RAISES rejects it \(no lamps\); correct the"),
        ],
    )
    def test_a_wrong_template_is_refused(
        self, tokenizer: Tokenizer, tmp_path: Path, settings: list[str], refusal: str
    ) -> None:
        (tmp_path / "BROKEN").write_text("{% for m in messages %}\n{% endfro %}")
        (tmp_path / "LARGE").write_bytes(bytes(1_000_001))
        os.mkfifo(tmp_path / "PIPE")
        (tmp_path / "RAISES").write_text("{{ raise_exception('no lamps') }}")
        there = [each.replace("chat_template=", f"chat_template={tmp_path}/") for each in settings]
        with pytest.raises(MlxftError, match=refusal):
            written(tokenizer, *there)

    def test_a_variable_that_the_template_never_reads_is_refused(
        self, tokenizer: Tokenizer, tmp_path: Path
    ) -> None:
        file = tmp_path / "thinking.jinja"
        file.write_text("{% if enable_thinking %}/think{% endif %}{{ messages[0].content }}")
        settings = (f"chat_template={file}", "chat_template_args={enable_thinkng: true}")
        with pytest.raises(RecipeError, match=r"enable_thinkng, .* \(read are enable_thinking\)"):
            written(tokenizer, *settings)

    def test_variables_need_a_template(self, tmp_path: Path) -> None:
        plain = load_tokenizer(make_tiny_model(tmp_path / "m", chat_template=None), False)
        with pytest.raises(ModelError, match="name one with chat_template, as chatml"):
            written(plain, "chat_template_args={plain: true}")

    def test_a_changed_file_is_measured_again(
        self, tiny_model: Path, polite: Path, tmp_path: Path
    ) -> None:
        data = tmp_path / "train.jsonl"
        data.write_text(json.dumps(RECORD))
        recipe = recipes.apply_settings(Recipe(), [f"chat_template={polite}"])
        *_, found = measure(load_tokenizer(tiny_model, False), data, recipe, whole=True)
        assert isinstance(found, TokenLengths)
        keep_lengths(data, tiny_model, recipe, found)
        assert kept_lengths(data, tiny_model, recipe) is not None
        polite.write_text(POLITE + " ")
        assert kept_lengths(data, tiny_model, recipe) is None


class TestTemplateOfARun:
    @pytest.fixture
    def run(self, make_run: MakeRun, polite: Path) -> Run:
        made = make_run(f"chat_template={polite}", "chat_template_args={plain: true}", "iters=1")
        made.train()
        return made

    def test_chat_and_exports_use_it_when_the_file_is_gone(
        self, run: Run, polite: Path, tmp_path: Path
    ) -> None:
        polite.unlink()
        kept = run.directory.path / "chat_template.jinja"
        model = ChatModel(Path(run.recipe.model))
        messages = [{"role": "user", "content": "On?"}]
        for adapter in (run.directory.path, run.directory.adapter_file):
            made = model.tokenizer_of(adapter)
            assert made.decode(render_prompt(made, messages)) == "[user]On?<|im_end|>[assistant]"
        forms: tuple[Form, ...] = ("mlx", "gguf", "peft")
        for form in forms:
            out = tmp_path / form
            export(_job(run, form, out), on_progress=lambda *_: None, cancelled=lambda: False)
        assert (tmp_path / "peft" / kept.name).read_text() == kept.read_text()
        assert load_tokenizer(tmp_path / "mlx", False).chat_template == kept.read_text()
        reader = gguf.GGUFReader(next((tmp_path / "gguf").glob("*.gguf")))
        field = reader.fields["tokenizer.chat_template"]
        assert field.contents() == kept.read_text()

    def test_a_resume_keeps_it(self, run: Run, polite: Path) -> None:
        polite.write_text("{{ raise_exception('other') }}")
        run.recipe = recipes.replace(run.recipe, "iters", 2)
        run.train()
        assert run.losses

    def test_a_resume_with_another_is_refused(self, run: Run) -> None:
        run.recipe = recipes.replace(run.recipe, "chat_template_args", {"plain": False})
        with pytest.raises((RecipeError, MlxftError), match="chat_template_args"):
            run.train()


def _job(run: Run, form: Form, out: Path) -> Job:
    return Job(
        model=Path(run.recipe.model),
        adapter=run.directory.path,
        recipe=run.recipe,
        data=Path(run.recipe.data),
        form=form,
        out=out,
        quantize=Quantize("keep" if form == "mlx" else "f16" if form == "gguf" else "keep"),
        origin=Origin(run="tiny-1", steps=1),
    )
