"""Locks are taken, or say in a sentence why they can't be."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from mlxft.errors import StorageError
from mlxft.runs import lock


def test_a_full_disk_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "pwrite", full)
    taken = lock.taken(tmp_path / "lock", "a run")
    with pytest.raises(StorageError, match="No space left on device"), taken:
        pass
    assert not lock.is_taken(tmp_path / "lock")
