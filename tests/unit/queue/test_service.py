"""What the system is given to start the supervisor with; no system is asked here."""

from __future__ import annotations

import configparser
import os
import plistlib
from pathlib import Path

import pytest

from mlxft.errors import EngineError
from mlxft.queue.service import Service, install, is_installed, own_service, service, uninstall

HOME = Path("/home/ada lovelace")
ENVIRONMENT = {"PATH": "/opt/bin:/bin", "MLXFT_STATE": "/s/100%", "SECRET": "x"}


def made(system: str) -> Service:
    return service(
        system,
        home=HOME,
        config=HOME / ".config",
        user=501,
        python="/opt/my env/bin/python",
        log=HOME / "queue" / "supervisor.log",
        environment=ENVIRONMENT,
    )


class TestMac:
    def test_the_agent_starts_at_login_and_leaves_engines_alone(self) -> None:
        found = made("darwin")
        ((path, text),) = found.files.items()
        assert path == HOME / "Library" / "LaunchAgents" / "mlxft-tui.queue.plist"
        agent = plistlib.loads(text.encode())
        assert agent["Label"] == path.stem
        assert agent["ProgramArguments"] == ["/opt/my env/bin/python", "-P", "-m", "mlxft.queue"]
        assert (agent["RunAtLoad"], agent["AbandonProcessGroup"]) == (True, True)
        assert agent["ProcessType"] == "Interactive"
        assert agent["EnvironmentVariables"] == {
            "MLXFT_STATE": "/s/100%",
            "PATH": "/opt/bin:/bin",
        }
        assert found.start == [["launchctl", "bootstrap", "gui/501", str(path)]]
        assert found.stop == [["launchctl", "bootout", "gui/501/mlxft-tui.queue"]]


class TestSystemd:
    def test_a_timer_starts_the_service_which_leaves_engines_alone(self) -> None:
        found = made("linux")
        folder = HOME / ".config" / "systemd" / "user"
        assert list(found.files) == [folder / "mlxft-queue.service", folder / "mlxft-queue.timer"]
        unit = configparser.RawConfigParser(strict=False)
        unit.optionxform = str  # type: ignore[assignment,method-assign]
        text = found.files[folder / "mlxft-queue.service"]
        unit.read_string(text)
        assert unit["Service"]["ExecStart"] == '"/opt/my env/bin/python" -P -m mlxft.queue'
        assert unit["Service"]["KillMode"] == "process"
        assert 'Environment="MLXFT_STATE=/s/100%%"' in text
        assert "SECRET" not in text
        timer = configparser.RawConfigParser()
        timer.read_string(found.files[folder / "mlxft-queue.timer"])
        assert timer["Install"]["wantedby"] == "timers.target"
        assert "onunitinactivesec" in timer["Timer"]


class TestInstalling:
    def test_files_are_written_and_deleted(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """With commands that do nothing in place of the system's."""
        monkeypatch.setattr(os, "geteuid", lambda: 501)
        found = Service(files={tmp_path / "a" / "unit": "text"}, start=[["true"]], stop=[["false"]])
        install(found)
        assert is_installed(found)
        assert (tmp_path / "a" / "unit").read_text() == "text"
        assert uninstall(found)
        assert not is_installed(found)
        assert not uninstall(found)

    def test_a_refusal_of_the_system_is_reported(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(os, "geteuid", lambda: 501)
        with pytest.raises(EngineError, match="no-such-program can't be run"):
            install(Service(files={}, start=[["no-such-program"]], stop=[]))
        with pytest.raises(EngineError, match="has failed: status 1"):
            install(Service(files={}, start=[["false"]], stop=[]))

    def test_never_for_root(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(os, "geteuid", lambda: 0)
        with pytest.raises(EngineError, match="isn't installed for root"):
            install(own_service())
