"""An error comes before what only makes sense without it."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NoReturn

import pytest

from mlxft.engine.machine import only_training
from mlxft.errors import EngineError
from mlxft.runs.directory import RunDirectory
from mlxft_tui.cli import demo
from mlxft_tui.cli.main import main
from mlxft_tui.session import Session


def test_speed_has_no_heading_before_a_model_that_cannot_be_opened(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    async def fail(_: Session) -> NoReturn:
        raise EngineError("The service can't be started.")

    monkeypatch.setattr(Session, "service", fail)
    assert main(["speed", "--model", "demo"]) == 1
    assert capsys.readouterr() == ("", "mlxft-tui: The service can't be started.\n")


def test_the_demo_is_not_downloaded_while_another_run_trains(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    def download(*_: Any) -> NoReturn:
        raise AssertionError("downloaded")

    monkeypatch.setattr(demo, "announce_download", download)
    with only_training(RunDirectory(tmp_path / "other")):
        assert main(["demo", "--headless"]) == 1
    assert "is training on this machine" in capsys.readouterr().err
