"""Exports of a tiny model's adapters, loaded again."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import gguf
import mlx.core as mx
import msgspec
import pytest
from mlx_lm.utils import load as load_by_mlx_lm
from mlx_lm.utils import quantize_model, save_config, save_model

from mlxft import recipe as recipes
from mlxft.adapters import base_model
from mlxft.compute.arrays import named_arrays, read_arrays
from mlxft.compute.exporting.export import ExportCancelledError, Job, export
from mlxft.compute.models import adapters, gguf_families, loading
from mlxft.compute.models.variants import BASE, Variants
from mlxft.errors import ModelError, StorageError
from mlxft.export.model_card import Origin
from mlxft.export.place import beside
from mlxft.export.size import expected_bytes
from mlxft.export.types import Exported, Form, Quantize
from support.models import make_tiny_model
from support.training import MakeRun, Run, trained_once

KINDS = ("lora", "dora", "full")


@pytest.fixture(params=KINDS)
def run(request: pytest.FixtureRequest, make_run: MakeRun) -> Run:
    return trained(make_run, f"fine_tune_type={request.param}")


@pytest.fixture
def lora(make_run: MakeRun) -> Run:
    return trained(make_run)


def trained(make_run: MakeRun, *settings: str) -> Run:
    """A run that has learned something."""
    return trained_once(make_run("learning_rate=0.02", "iters=12", *settings))


def exported(run: Run, form: Form, quantize: str = "keep", model: str | None = None) -> Exported:
    return export(job(run, form, quantize, model), on_progress=_ignored, cancelled=lambda: False)


def job(run: Run, form: Form, quantize: str = "keep", model: str | None = None) -> Job:
    recipe = run.directory.recipe()
    return Job(
        model=Path(model or recipe.model),
        adapter=run.directory.path,
        recipe=recipe,
        data=Path(recipe.data),
        form=form,
        out=run.directory.path.parent / "out",
        quantize=Quantize(quantize),
        origin=Origin(run="tiny-1", steps=12, validation=((6, 2.5),)),
    )


BESIDE = ("README.md", "export.json", "validation.svg", "Modelfile")
"""What is written beside every export."""


def _ignored(*_: Any) -> None:
    """No progress."""


def logits_of(model: Any) -> mx.array:
    result: mx.array = model(mx.array([[3, 9, 4, 7, 5, 2]]))
    return result


def logits_with_adapter(run: Run) -> mx.array:
    variants = Variants(loading.load(Path(run.directory.recipe().model)))
    variants.use(variants.saved(run.directory.path)[0])
    return logits_of(variants.loaded.model)


class TestFusedModel:
    def test_mlx_lm_loads_it_and_its_logits_are_those_of_the_adapter(self, run: Run) -> None:
        found = exported(run, "mlx")
        model, _ = load_by_mlx_lm(found.folder)
        assert mx.allclose(logits_of(model), logits_with_adapter(run), 1e-5, 1e-5)

    def test_the_proof_counts_the_records_it_compared(
        self, lora: Run, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("mlxft.compute.exporting.proof.POSITIONS", 1)
        proof = exported(lora, "adapter").proof
        assert (proof.records, proof.positions) == (1, 1)

    def test_without_data_an_adapter_that_answers_nothing_is_compared_on_the_questions(
        self, lora: Run, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("mlxft.compute.exporting.proof.answered", lambda *_: ("",) * 4)
        alone = replace(job(lora, "peft"), data=None)
        proof = export(alone, on_progress=_ignored, cancelled=lambda: False).proof
        assert (proof.source, proof.records) == ("own", 4)
        assert proof.positions > 0

    def test_the_proof_has_the_measured_figures(self, run: Run) -> None:
        proof = exported(run, "mlx").proof
        assert proof.source == "validation"
        assert proof.records == 5
        assert proof.largest_difference < 1e-4
        assert proof.exported_loss == pytest.approx(proof.loss, abs=1e-5)
        assert proof.loss < proof.base_loss - 0.1
        assert proof.same_answers == proof.answers == 5

    @pytest.mark.parametrize(("bits", "loses_much"), [("2", True), ("4", False)])
    def test_the_loss_lost_by_quantizing_is_said_and_true(
        self, lora: Run, monkeypatch: pytest.MonkeyPatch, bits: str, loses_much: bool
    ) -> None:
        monkeypatch.setattr("mlxft.compute.exporting.proof.POSITIONS", 10_000)
        found = exported(lora, "mlx", bits)
        assert (found.proof.lost_share > 0.1) == loses_much
        assert ("export with --quantize none" in found.warning) == loses_much
        assert found.proof.exported_loss != pytest.approx(found.proof.loss, abs=1e-4)
        again = exported_loss(lora, Path(found.folder))
        assert found.proof.exported_loss == pytest.approx(again, abs=1e-4)

    def test_a_quantized_model_is_kept_quantized_or_not(self, lora: Run, tmp_path: Path) -> None:
        model = quantized(Path(lora.directory.recipe().model), tmp_path / "quantized")
        kept = exported(lora, "mlx", model=str(model))
        config = json.loads((Path(kept.folder) / "config.json").read_text())
        assert config["quantization"]["bits"] == 8
        assert any(name.endswith(".scales") for name in arrays_of(kept))
        shutil.rmtree(kept.folder)
        whole = exported(lora, "mlx", "none", model=str(model))
        config = json.loads((Path(whole.folder) / "config.json").read_text())
        assert "quantization" not in config
        assert not any(name.endswith(".scales") for name in arrays_of(whole))
        assert 100 * whole.proof.mean_difference < kept.proof.mean_difference


def exported_loss(run: Run, folder: Path) -> float:
    """The exported model's validation loss, by the trainer's own formula."""
    from mlxft.compute.arrays import number
    from mlxft.compute.tokenization import load_tokenizer
    from mlxft.compute.training.batches import tokenize_split
    from mlxft.compute.training.loss import plain_loss
    from mlxft.data.dataset import load_split
    from mlxft.recipe import apply_settings

    recipe = apply_settings(run.directory.recipe(), ("batch_size=1",))
    split = load_split(Path(recipe.data), "valid", recipe.columns)
    tokenized = tokenize_split(load_tokenizer(folder, False), split, recipe, seed=0)
    model, total, tokens = loading.load(folder).model, 0.0, 0.0
    for batch in tokenized.plan.epoch(0):
        loss, count = plain_loss(model, tokenized.arrays(batch))
        total, tokens = total + number(loss) * number(count), tokens + number(count)
    return total / tokens


def quantized(model: Path, folder: Path) -> Path:
    """The model in 8 bits."""
    shutil.copytree(model, folder)
    loaded = loading.load(model)
    packed, config = quantize_model(loaded.model, loaded.config, 32, 8)
    (folder / "model.safetensors").unlink()
    save_model(folder, packed)
    save_config(config, folder / "config.json")
    return folder


def arrays_of(found: Exported) -> list[str]:
    return list(named_arrays(read_arrays(Path(found.folder) / "model.safetensors")))


class TestPeftAdapter:
    @pytest.mark.parametrize("kind", ["lora", "dora"])
    def test_its_arrays_are_transposed_under_pefts_names(
        self, make_run: MakeRun, kind: str
    ) -> None:
        run = trained(make_run, f"fine_tune_type={kind}", "lora_parameters.scale=2.5")
        folder = Path(exported(run, "peft").folder)
        config = json.loads((folder / "adapter_config.json").read_text())
        assert (config["r"], config["lora_alpha"], config["use_dora"]) == (8, 20.0, kind == "dora")
        ours = read_arrays(run.directory.adapter_file)
        theirs = read_arrays(folder / "adapter_model.safetensors")
        assert len(ours) == len(theirs)
        for name, array in ours.items():
            layer, part = name.rsplit(".", 1)
            assert layer in config["target_modules"]
            key = {"lora_a": "lora_A.weight", "lora_b": "lora_B.weight"}.get(
                part, "lora_magnitude_vector"
            )
            assert mx.array_equal(theirs[f"base_model.model.{layer}.{key}"], array.T)

    @pytest.mark.parametrize("kind", ["lora", "dora"])
    def test_it_comes_back_with_every_tensor_equal(self, make_run: MakeRun, kind: str) -> None:
        run = trained(make_run, f"fine_tune_type={kind}")
        found = exported(run, "peft")
        assert found.proof.largest_difference == 0
        loaded = loading.load(Path(run.directory.recipe().model))
        names = adapters.load_saved(loaded, Path(found.folder))
        ours, theirs = (
            read_arrays(run.directory.adapter_file),
            named_arrays(loaded.model.parameters()),
        )
        assert names == ours.keys()
        assert all(mx.array_equal(theirs[name], array) for name, array in ours.items())

    def test_it_keeps_the_fingerprint_of_its_model(self, lora: Run) -> None:
        found = exported(lora, "peft")
        names = (lora.directory.adapter_file, Path(found.folder) / "adapter_model.safetensors")
        ours, theirs = map(base_model.kept, names)
        assert ours == theirs == base_model.fingerprint(Path(lora.directory.recipe().model))

    def test_it_names_a_base_that_others_can_load(self, lora: Run, tmp_path: Path) -> None:
        model = tmp_path / "downloaded"
        shutil.copytree(lora.directory.recipe().model, model)
        file = model / "config.json"
        file.write_text(json.dumps({**json.loads(file.read_text()), "_name_or_path": "maker/tiny"}))
        wanted = job(lora, "peft", model=str(model))
        recipe = recipes.replace(wanted.recipe, "model", str(model))
        folder = export(
            replace(wanted, recipe=recipe), on_progress=_ignored, cancelled=lambda: False
        ).folder
        config = json.loads((Path(folder) / "adapter_config.json").read_text())
        assert config["base_model_name_or_path"] == "maker/tiny"
        assert "names `maker/tiny`" in (Path(folder) / "README.md").read_text()

    def test_a_family_that_nobody_has_checked_is_said(self, lora: Run) -> None:
        found = exported(lora, "peft")
        assert (found.family, found.warning) == ("llama", "")
        other = msgspec.structs.replace(found, family="newcomer")
        assert "names the layers of newcomer alike" in other.warning


OUTSIDE = "lora_parameters.keys=self_attn.q_proj,model.embed_tokens"


class TestEmbeddings:
    """What is trained outside of the blocks, exported or refused."""

    @pytest.fixture(scope="class")
    def untied(self, tmp_path_factory: pytest.TempPathFactory) -> Path:
        return make_tiny_model(tmp_path_factory.mktemp("untied"), tie_word_embeddings=False)

    @pytest.mark.parametrize("is_tied", [True, False])
    @pytest.mark.parametrize("setting", [OUTSIDE, "train_embeddings=<|im_end|>"])
    def test_are_fused(
        self, make_run: MakeRun, untied: Path, tiny_model: Path, setting: str, is_tied: bool
    ) -> None:
        model = tiny_model if is_tied else untied
        run = trained(make_run, f"model={model}", "lora_parameters.scale=2", setting)
        found = exported(run, "mlx")
        assert found.proof.largest_difference < 1e-3
        assert found.proof.mean_difference < 1e-5
        assert found.proof.loss < found.proof.base_loss

    def test_lora_of_an_embedding_and_a_head_is_pefts_too(
        self, make_run: MakeRun, untied: Path
    ) -> None:
        run = trained(make_run, f"model={untied}", f"{OUTSIDE},lm_head")
        found = exported(run, "peft")
        assert found.proof.largest_difference < 1e-5
        names = read_arrays(Path(found.folder) / "adapter_model.safetensors")
        assert "base_model.model.model.embed_tokens.lora_embedding_A" in names
        assert "base_model.model.lm_head.lora_B.weight" in names

    @pytest.mark.parametrize("rows", ["all", "<|im_end|>"])
    def test_rows_are_whole_layers_of_pefts(
        self, make_run: MakeRun, untied: Path, rows: str
    ) -> None:
        run = trained(make_run, f"model={untied}", f"train_embeddings={rows}")
        found = exported(run, "peft")
        assert found.proof.largest_difference < 1e-5
        assert found.proof.loss < found.proof.base_loss
        config = json.loads((Path(found.folder) / "adapter_config.json").read_text())
        assert sorted(config["modules_to_save"]) == ["embed_tokens", "lm_head"]
        assert not {"model.embed_tokens", "lm_head"} & set(config["target_modules"])


class TestRefusal:
    @pytest.mark.parametrize("form", ["peft", "gguf"])
    def test_what_a_form_lacks_is_said_before_anything_is_loaded(
        self, make_run: MakeRun, monkeypatch: pytest.MonkeyPatch, form: Form
    ) -> None:
        run = make_run("train_embeddings=all", "iters=1")
        run.train()
        monkeypatch.setattr(gguf_families, "FAMILIES", {})
        monkeypatch.setattr(loading, "load", lambda *_: pytest.fail("loaded"))
        with pytest.raises(ModelError, match=r"this one is the head too|are not written as GGUF"):
            exported(run, form)


class TestGguf:
    def test_a_model_file_computes_the_same_and_has_the_lines_that_load_it(self, run: Run) -> None:
        found = exported(run, "gguf", "f32")
        assert found.proof.largest_difference < 1e-4
        assert found.proof.same_answers == found.proof.answers
        folder = Path(found.folder)
        assert (folder / "out.gguf").is_file()
        assert (folder / "Modelfile").read_text() == "FROM ./out.gguf\n"
        assert "llama-cli -m out.gguf" in (folder / "README.md").read_text()

    def test_an_adapter_file_computes_the_same(self, lora: Run) -> None:
        found = exported(lora, "gguf-adapter")
        assert found.proof.largest_difference == 0
        fields = gguf.GGUFReader(Path(found.folder) / "out.gguf").fields
        recipe = lora.directory.recipe().lora_parameters
        assert fields["adapter.lora.alpha"].contents() == recipe.rank * recipe.scale

    def test_a_type_of_another_form_is_refused(self, lora: Run) -> None:
        with pytest.raises(ModelError, match="q8_0 is nothing for --to mlx; choose one of keep,"):
            exported(lora, "mlx", "q8_0")
        with pytest.raises(ModelError, match="4 is nothing for --to gguf; choose one of f32,"):
            exported(lora, "gguf", "4")


class TestMlxAdapter:
    def test_it_is_a_folder_of_its_own_that_mlx_lm_loads(self, lora: Run) -> None:
        found = exported(lora, "adapter")
        model, _ = load_by_mlx_lm(lora.directory.recipe().model, adapter_path=found.folder)
        assert mx.allclose(logits_of(model), logits_with_adapter(lora), 1e-5, 1e-5)


class TestPlace:
    def test_the_card_and_the_report_are_beside_the_weights(self, lora: Run) -> None:
        found = exported(lora, "mlx")
        folder = Path(found.folder)
        card = (folder / "README.md").read_text()
        assert "![Validation loss over steps](validation.svg)" in card
        assert (folder / "validation.svg").read_text().startswith("<svg")
        assert all(line in card for line in found.proof.lines)
        assert "| 6 | 2.5000 |" in card
        assert json.loads((folder / "export.json").read_text())["proof"]["records"] == 5
        assert {name for name, _ in found.files} == {each.name for each in folder.iterdir()}

    def test_a_folder_with_files_is_refused(self, lora: Run) -> None:
        wanted = job(lora, "mlx")
        wanted.out.mkdir()
        (wanted.out / "mine").touch()
        with pytest.raises(StorageError, match="choose another --out"):
            exported(lora, "mlx")
        assert [each.name for each in wanted.out.iterdir()] == ["mine"]

    def test_a_second_one_into_the_same_folder_is_refused(self, lora: Run) -> None:
        wanted = job(lora, "mlx")
        with beside(wanted.out), pytest.raises(StorageError, match="another export is writing"):
            exported(lora, "mlx")
        left = wanted.out.with_name(f".{wanted.out.name}.partial")
        left.mkdir()
        (left / "of-a-killed-one").touch()
        names = [name for name, _ in exported(lora, "adapter").files]
        assert "of-a-killed-one" not in names
        assert not left.exists()

    @pytest.mark.parametrize(
        ("form", "quantize"),
        [("mlx", "none"), ("gguf", "f16"), ("gguf-adapter", "keep")],
    )
    def test_its_size_is_known_before(self, lora: Run, form: Form, quantize: str) -> None:
        wanted = job(lora, form, quantize)
        expected = expected_bytes(wanted.model, wanted.adapter, form, wanted.quantize)
        files = dict(exported(lora, form, quantize).files)
        written = sum(size for name, size in files.items() if name not in BESIDE)
        assert expected == pytest.approx(written, rel=0.25)

    @pytest.mark.parametrize("at", ["measuring", "saving"])
    def test_nothing_is_left_of_a_cancelled_one(self, lora: Run, at: str) -> None:
        wanted = job(lora, "mlx")
        wanted.out.mkdir()
        before = set(lora.directory.path.parent.iterdir())
        stages: list[str] = []
        with pytest.raises(ExportCancelledError):
            export(
                wanted,
                on_progress=lambda stage, *_: stages.append(stage),
                cancelled=lambda: at in stages,
            )
        assert set(lora.directory.path.parent.iterdir()) == before

    def test_mlx_could_not_load_a_model_from_a_name_that_is_not_utf8(self, lora: Run) -> None:
        place = lora.directory.path.parent / os.fsdecode(b"caf\xe9")
        with pytest.raises(StorageError, match="choose another --out"):
            export(
                replace(job(lora, "mlx"), out=place), on_progress=_ignored, cancelled=lambda: False
            )
        assert not place.exists()

    @pytest.mark.parametrize("form", ["peft", "gguf", "adapter"])
    def test_a_folder_whose_name_is_not_utf8_is_written(self, lora: Run, form: Form) -> None:
        place = lora.directory.path.parent / os.fsdecode(b"caf\xe9 1")
        wanted = replace(job(lora, form), out=place)
        export(wanted, on_progress=_ignored, cancelled=lambda: False)
        assert (place / "export.json").is_file()

    @pytest.mark.parametrize("form", ["mlx", "peft"])
    def test_mlxs_own_error_of_a_full_disk_is_said(
        self, lora: Run, form: Form, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def full(*_: Any, **__: Any) -> None:
            raise RuntimeError("[write] Unable to write 25986 bytes to file.")

        before = set(lora.directory.path.parent.iterdir())
        monkeypatch.setattr(mx, "save_safetensors", full)
        with pytest.raises(StorageError, match=r"Unable to write .* free space"):
            exported(lora, form)
        assert set(lora.directory.path.parent.iterdir()) == before

    def test_an_adapter_of_another_model_leaves_nothing(self, lora: Run) -> None:
        wanted = job(lora, "mlx")
        (wanted.adapter / "adapters.safetensors").write_bytes(b"no adapter")
        before = set(lora.directory.path.parent.iterdir())
        with pytest.raises(ModelError):
            exported(lora, "mlx")
        assert set(lora.directory.path.parent.iterdir()) == before


class TestBase:
    def test_stays_as_it_is(self, lora: Run) -> None:
        model = Path(lora.directory.recipe().model)
        before = logits_of(Variants(loading.load(model), BASE).loaded.model)
        exported(lora, "mlx")
        assert mx.array_equal(before, logits_of(loading.load(model).model))
