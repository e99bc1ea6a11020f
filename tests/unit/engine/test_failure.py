"""What the user reads after an error, and what the log keeps."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from mlxft.engine.failure import record, sentence
from mlxft.errors import DataError


class TestSentence:
    def test_an_expected_error_is_its_own_sentence(self, tmp_path: Path) -> None:
        log = tmp_path / "engine.log"
        assert sentence(DataError("data: empty."), "The run has failed", log) == "data: empty."
        assert not log.exists()

    def test_the_log_keeps_what_an_expected_error_was_made_from(self, tmp_path: Path) -> None:
        error = DataError("data: empty.")
        error.__cause__ = KeyError("loss")
        for folder in (tmp_path, tmp_path / "deleted"):
            assert sentence(error, "The run has failed", folder / "engine.log") == "data: empty."
        assert "KeyError: 'loss'" in (tmp_path / "engine.log").read_text()
        assert not (tmp_path / "deleted").exists()

    def test_any_other_is_named_and_the_log_has_its_traceback(self, tmp_path: Path) -> None:
        log = tmp_path / "logs" / "engine.log"
        try:
            dict[str, float]()["loss"]
        except KeyError as error:
            message = sentence(error, "The run has failed", log)
        assert message == f"The run has failed unexpectedly (KeyError); {log} has the traceback."
        assert "Traceback" in log.read_text()
        assert stat.S_IMODE(log.stat().st_mode) == 0o600

    def test_a_log_that_cannot_be_written_changes_nothing(self, tmp_path: Path) -> None:
        assert "unexpectedly" in sentence(KeyError(), "The run has failed", tmp_path)


def test_a_message_with_a_path_that_is_not_utf8_is_recorded(tmp_path: Path) -> None:
    log = tmp_path / "engine.log"
    record(ValueError(os.fsdecode(b"caf\xe9")), log)
    assert log.read_text().endswith("ValueError: caf\\udce9\n")
