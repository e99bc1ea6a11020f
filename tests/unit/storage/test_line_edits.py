"""A line of a file replaced or removed."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from mlxft.storage.line_edits import replace_line


@pytest.mark.parametrize(
    ("before", "instead", "after"),
    [
        (b"a\nb\nc\n", b"new", b"a\nnew\nc\n"),
        (b"b\na\nb\n", b"new", b"b\na\nnew\n"),
        (b"a\nb\nc\n", None, b"a\nc\n"),
        (b"a\r\nb\r\nc", None, b"a\r\nc"),
        (b"a\nb", b"new", b"a\nnew\n"),
        (b"a\nbb\n", b"new", None),
    ],
)
def test_the_last_equal_line_is_replaced(
    tmp_path: Path, before: bytes, instead: bytes | None, after: bytes | None
) -> None:
    file, link = tmp_path / "file", tmp_path / "link"
    file.write_bytes(before)
    file.chmod(0o640)
    link.symlink_to(file)
    assert replace_line(link, b"b", instead) == (after is not None)
    assert file.read_bytes() == (before if after is None else after)
    assert stat.S_IMODE(file.stat().st_mode) == 0o640
    assert link.is_symlink()


def test_a_full_disk_leaves_the_file_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unwritable(_: int) -> None:
        raise OSError(28, "No space left on device")

    file = tmp_path / "file"
    file.write_bytes(b"a\nb\n")
    monkeypatch.setattr(os, "fsync", unwritable)
    with pytest.raises(OSError, match="No space"):
        replace_line(file, b"b", None)
    assert [each.name for each in tmp_path.iterdir()] == ["file"]
    assert file.read_bytes() == b"a\nb\n"
