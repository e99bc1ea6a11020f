"""Models here and on the hub are listed with what they are and whether they fit."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from mlxft.errors import ModelError
from mlxft.hub import families
from mlxft.hub.download import download
from mlxft.hub.listed import ListedModel, Machine, in_order, with_text
from mlxft.hub.local_models import local_models
from mlxft.hub.search import search
from mlxft.hub.verdicts import outcome
from mlxft.recipe import Recipe
from mlxft.storage.paths import demo_model
from support.hub_server import EIGHT_BILLION, HubServer
from support.models import make_tiny_model

MACHINE = Machine("metal", 18 * 10**9, Recipe(max_seq_length=256))


@pytest.fixture
def project(hub: HubServer, tmp_path: Path) -> Path:
    """An empty project, and nothing imported."""
    (tmp_path / "project").mkdir()
    return tmp_path / "project"


def named(found: list[ListedModel]) -> dict[str, ListedModel]:
    return {each.name: each for each in found}


def write_config(folder: Path, config: Mapping[str, Any]) -> None:
    (folder / "config.json").write_text(json.dumps(config))


class TestHere:
    def test_nothing(self, project: Path) -> None:
        assert list(local_models(project, MACHINE)) == []

    def test_the_cache_the_demo_and_folders(
        self, hub: HubServer, project: Path, tmp_path: Path
    ) -> None:
        folder = make_tiny_model(project / "mine", quantization={"bits": 4, "group_size": 32})
        make_tiny_model(project / "models" / "deeper")
        (project / "deep").mkdir()
        (project / "deep" / "er.gguf").write_bytes(b"GGUF")
        make_tiny_model(demo_model())
        hub.add("org/tiny", folder)
        download("org/tiny", lambda _: None)
        hub.add("org/half", make_tiny_model(tmp_path / "half"))
        hub.faults["model.safetensors"] = "dead"
        with pytest.raises(ModelError):
            download("org/half", lambda _: None)
        found = named([*local_models(project, MACHINE)])
        assert {name: each.place for name, each in found.items()} == {
            "deep/er.gguf": "gguf",
            "demo": "demo",
            "org/half": "cache",
            "org/tiny": "cache",
            "mine": "folder",
            "models/deeper": "folder",
        }
        mine = found["org/tiny"]
        assert (mine.quantization, mine.context, mine.family) == ("4-bit", 512, "llama")
        assert mine.size == sum(each.stat().st_size for each in folder.iterdir())
        assert (mine.verdict, mine.hindrance) == ("fits", "")
        assert "download it again to continue" in found["org/half"].hindrance

    @pytest.mark.parametrize(
        ("file", "content", "said"),
        [
            ("tokenizer.json", None, "its tokenizer is missing"),
            ("model.safetensors", b"\x08\0\0\0\0\0\0\0{}", "than its header says"),
            (
                "model.safetensors.index.json",
                b'{"weight_map": {"a": "model-1.safetensors", "b": "model.safetensors"}}',
                "1 of its 2 weight files are missing",
            ),
            ("config.json", b"{", "not valid JSON"),
            ("config.json", b'{"model_type": "novel"}', "doesn't know the family novel"),
        ],
    )
    def test_what_is_wrong_with_a_folder(
        self, project: Path, file: str, content: bytes | None, said: str
    ) -> None:
        place = make_tiny_model(project / "odd") / file
        if content is None:
            place.unlink()
        else:
            place.write_bytes(content)
        (found,) = local_models(project, MACHINE)
        assert said in found.hindrance
        assert not found.is_usable

    def test_a_large_model_does_not_fit_and_comes_last(self, project: Path) -> None:
        write_config(make_tiny_model(project / "large"), EIGHT_BILLION)
        make_tiny_model(project / "small")
        large, small = in_order([*local_models(project, MACHINE)], "name")
        assert (large.verdict, large.parameters) == ("wont_fit", 8_030_261_248)
        assert outcome(large).startswith("won't fit, ")
        assert in_order([large, small], "best") == [small, large]
        assert in_order([large, small], "memory") == [small, large]
        assert with_text([large, small], "LAR bf16") == [large]


class TestSearch:
    def test_verdicts_come_from_config_and_sizes_alone(
        self, hub: HubServer, project: Path, tmp_path: Path
    ) -> None:
        folder = make_tiny_model(tmp_path / "made")
        hub.add("org/tiny", folder, downloads=5)
        write_config(folder, EIGHT_BILLION)
        hub.add("org/tiny-8b", folder, downloads=50, gated=False)
        hub.add("org/tiny-gated", folder, downloads=1, gated=True)
        hub.add("org/other", folder)
        (folder / "model.safetensors").unlink()
        hub.add("org/tiny-gguf", folder, downloads=2)
        found = search("TINY", MACHINE)
        assert [each.name for each in found] == [
            *("org/tiny-8b", "org/tiny", "org/tiny-gguf", "org/tiny-gated")
        ]
        seen = named(found)
        assert seen["org/tiny-8b"].verdict == "wont_fit"
        assert seen["org/tiny"].verdict == "fits"
        assert seen["org/tiny"].size == sum(map(len, hub.repositories["org/tiny"].files.values()))
        assert "no weights" in seen["org/tiny-gguf"].hindrance
        gated = seen["org/tiny-gated"]
        assert gated.locked == "gated"
        assert f"accept its licence at {hub.address}/org/tiny-gated" in gated.hindrance
        assert not hub.ranges(".safetensors")
        assert list(local_models(project, MACHINE)) == []

    def test_a_private_model_is_found_by_its_name_with_a_token_that_is_never_shown(
        self,
        hub: HubServer,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
        capfd: pytest.CaptureFixture[str],
    ) -> None:
        hub.add("org/secret", make_tiny_model(tmp_path / "made"), private=True)
        (without,) = search("org/secret", MACHINE)
        assert "hf auth login if it is private" in without.hindrance
        token = "hf_" + "planted" * 5
        monkeypatch.setenv("HF_TOKEN", token)
        (found,) = search("org/secret", MACHINE)
        assert found.verdict == "fits"
        assert any(token in each.headers.get("authorization", "") for each in hub.requests)
        assert token not in "".join(capfd.readouterr())
        assert token not in repr(found)

    def test_being_offline_is_a_sentence(
        self, hub: HubServer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
        with pytest.raises(ModelError, match="hub can't be reached"):
            search("tiny", MACHINE)
        monkeypatch.setenv("HF_HUB_OFFLINE", "1")
        with pytest.raises(ModelError, match="HF_HUB_OFFLINE keeps"):
            search("tiny", MACHINE)


class TestFamilies:
    def test_the_families_that_can_not_be_trained_are_those_of_the_docs(self) -> None:
        docs = Path(__file__).parents[3] / "docs" / "families.json"
        measured = json.loads(docs.read_text())
        untrained = {name for name, each in measured.items() if not each["trains"]}
        assert set(families.UNTRAINED) == untrained

    @pytest.mark.parametrize(
        ("config", "said"),
        [
            ({"model_type": "llama"}, ""),
            ({"model_type": "mistral"}, ""),
            ({"model_type": "bitnet"}, "can take an adapter"),
            ({}, "no model_type"),
            (
                {"model_type": "llama", "quantization_config": {"quant_method": "bitsandbytes"}},
                "doesn't read bitsandbytes weights",
            ),
        ],
    )
    def test_a_family_is_refused_with_its_reason(self, config: dict[str, Any], said: str) -> None:
        refused = families.refused_family(config)
        assert said in refused
        assert bool(said) == bool(refused)
