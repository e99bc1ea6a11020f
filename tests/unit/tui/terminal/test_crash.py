"""The log of the viewer."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Iterator

import pytest

from mlxft.storage.paths import log_file
from mlxft_tui.terminal import crash


@pytest.fixture(autouse=True)
def _no_other_log() -> Iterator[None]:
    before = logging.getLogger().handlers[:]
    yield
    logging.getLogger().handlers[:] = before


def test_warnings_are_written_to_the_log() -> None:
    crash.log_to_file()
    logging.getLogger("a.library").warning("too long")
    assert "a.library: too long" in log_file().read_text()


def test_a_warning_after_the_logs_folder_was_deleted_is_no_error() -> None:
    crash.log_to_file()
    shutil.rmtree(log_file().parent)
    logging.getLogger("a.library").warning("too long")
    assert not log_file().exists()
