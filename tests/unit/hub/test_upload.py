"""`mlxft-tui upload`: files are listed and searched for secrets, and sent as one commit."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from mlxft_tui.cli.main import main
from support.hub_server import HubServer
from support.models import make_tiny_model

TOKEN = "hf_" + "planted" * 5


@pytest.fixture
def folder(hub: HubServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An export, and a login."""
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    folder = make_tiny_model(tmp_path / "out" / "export")
    (folder / "README.md").write_text("# An export\n")
    (folder / ".DS_Store").write_text("hidden")
    return folder


def uploads(folder: Path, *options: str) -> int:
    return main(["upload", str(folder), "--repo", "me/mine", *options])


class TestUpload:
    def test_all_listed_files_arrive_in_one_commit(
        self, hub: HubServer, folder: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert uploads(folder, "--private", "--yes", "--json") == 0
        found = hub.repositories["me/mine"]
        (folder / ".DS_Store").unlink()
        assert found.files == {each.name: each.read_bytes() for each in folder.iterdir()}
        assert found.private
        said = capsys.readouterr()
        row = json.loads(said.out)
        assert row["page"] == f"{hub.address}/me/mine"
        assert sorted(row["files"]) == sorted(found.files)
        assert "model.safetensors" in said.err
        assert TOKEN not in said.out + said.err
        assert len([each for each in hub.requests if "/commit/" in each.path]) == 1

    def test_without_a_confirmation_nothing_is_sent(
        self,
        hub: HubServer,
        folder: Path,
        monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        assert uploads(folder) == 1
        assert "add --yes" in capsys.readouterr().err
        monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
        monkeypatch.setattr("sys.stdin.readline", lambda: "n\n", raising=False)
        assert uploads(folder) == 1
        said = capsys.readouterr().err
        assert "public: anyone can read it" in said
        assert "nothing was uploaded" in said
        assert hub.repositories == {}

    @pytest.mark.parametrize(
        ("file", "text", "kind"),
        [
            ("notes.txt", f"\n\nlogin {TOKEN}", "notes.txt, line 3: a Hugging Face token"),
            ("wide.txt", f"login {TOKEN}".encode("utf-16"), "wide.txt, line 1: a Hugging Face"),
            ("key.md", "-----BEGIN OPENSSH PRIVATE KEY-----", "a private key"),
            ("notes.md", "trained in /Users/ada/models", "line 1: a path of a home folder\n"),
            (
                "adapter_config.json",
                '{\n "base_model_name_or_path": "/Users/ada/models/q"\n}',
                "line 2: a path of a home folder of the base model; write the model's name",
            ),
            ("server.pem", "", "a file that usually holds secrets"),
        ],
    )
    def test_secrets_are_refused_and_never_shown(
        self,
        hub: HubServer,
        folder: Path,
        capsys: pytest.CaptureFixture[str],
        file: str,
        text: str | bytes,
        kind: str,
    ) -> None:
        (folder / file).write_bytes(text if isinstance(text, bytes) else text.encode())
        assert uploads(folder, "--yes") == 1
        said = capsys.readouterr()
        assert kind in said.err
        assert "1 finding that should not leave this machine" in said.err
        assert TOKEN not in said.out + said.err
        assert hub.repositories == {}
        assert uploads(folder, "--yes", "--with-secrets") == 0
        assert file in hub.repositories["me/mine"].files

    def test_a_run_is_not_an_export(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        (folder / "events.jsonl").touch()
        assert uploads(folder, "--yes") == 1
        assert "export it" in capsys.readouterr().err

    def test_without_a_login_or_its_permission(
        self,
        hub: HubServer,
        folder: Path,
        monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        hub.refuses_writing = True
        assert uploads(folder, "--yes") == 1
        assert "your token doesn't allow it" in capsys.readouterr().err
        monkeypatch.delenv("HF_TOKEN")
        assert uploads(folder, "--yes") == 1
        assert "a token that may write" in capsys.readouterr().err
        monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
        assert uploads(folder, "--yes") == 1
        assert "check the connection and the proxy (HTTPS_PROXY).\n" in capsys.readouterr().err

    def test_a_failed_upload_leaves_nothing_visible_and_is_continued(
        self, hub: HubServer, folder: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        hub.loses_uploads = True
        assert uploads(folder, "--yes") == 1
        assert "nothing of it is visible" in capsys.readouterr().err
        assert hub.repositories["me/mine"].files == {}
        hub.loses_uploads = False
        assert uploads(folder, "--yes") == 0
        assert "model.safetensors" in hub.repositories["me/mine"].files
