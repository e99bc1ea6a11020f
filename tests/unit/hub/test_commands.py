"""`mlxft-tui models` and `download`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from mlxft.memory.local_config import snapshot_of
from mlxft_tui.cli.main import main
from support.hub_server import HubServer
from support.models import make_tiny_model


@pytest.fixture
def tiny(hub: HubServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> HubServer:
    """A hub with two models; the current folder is an empty project."""
    folder = make_tiny_model(tmp_path / "made")
    hub.add("org/tiny", folder, downloads=3, likes=1)
    hub.add("org/tiny-other", folder, downloads=2, likes=7)
    (tmp_path / "project").mkdir()
    monkeypatch.chdir(tmp_path / "project")
    return hub


class TestModels:
    def test_here_and_on_the_hub(self, tiny: HubServer, capsys: pytest.CaptureFixture[str]) -> None:
        assert main(["models"]) == 0
        assert "--search TEXT searches the hub" in capsys.readouterr().out
        assert main(["models", "--search", "tiny", "--sort", "likes"]) == 0
        first, second = capsys.readouterr().out.splitlines()
        assert first.split()[0] == "org/tiny-other"
        assert second.split()[0] == "org/tiny"
        assert "fits, " in first
        assert main(["models", "--search", "tiny", "--sort", "name", "--json"]) == 0
        found = json.loads(capsys.readouterr().out)
        assert [(each["name"], each["place"]) for each in found] == [
            ("org/tiny", "hub"),
            ("org/tiny-other", "hub"),
        ]
        assert main(["models", "--search", "nothing"]) == 0
        assert "no model on the hub has nothing" in capsys.readouterr().out

    def test_an_order_of_the_hub_needs_a_search(
        self, tiny: HubServer, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert main(["models", "--sort", "likes"]) == 1
        assert "needs --search" in capsys.readouterr().err


class TestDownload:
    def test_a_model_is_fetched_and_then_listed(
        self, tiny: HubServer, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert main(["download", "org/tiny"]) == 0
        said = capsys.readouterr()
        folder = snapshot_of("org/tiny")
        assert folder is not None
        assert said.out.startswith("org/tiny is in ")
        assert "downloading" in said.err
        assert main(["models", "--json"]) == 0
        (found,) = json.loads(capsys.readouterr().out)
        assert (found["name"], found["folder"], found["verdict"]) == (
            *("org/tiny", str(folder), "fits"),
        )

    def test_a_refusal_is_a_sentence(
        self, tiny: HubServer, capsys: pytest.CaptureFixture[str]
    ) -> None:
        tiny.faults["model.safetensors"] = "corrupt"
        assert main(["download", "org/tiny", "--json"]) == 1
        assert "another checksum than announced" in capsys.readouterr().err
        assert main(["download", "not a name"]) == 1
        assert "write it as owner/name" in capsys.readouterr().err

    def test_ctrl_c_keeps_what_has_arrived(
        self,
        tiny: HubServer,
        monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        def interrupted(*_: object) -> None:
            raise KeyboardInterrupt

        monkeypatch.setattr("mlxft.hub.download.download", interrupted)
        assert main(["download", "org/tiny"]) == 130
        assert "download org/tiny continues it" in capsys.readouterr().err
        assert snapshot_of("org/tiny") is None
