"""Messages with paths that are not UTF-8 are written as JSON and read again."""

from __future__ import annotations

import json
import os

import msgspec
import pytest

from mlxft.text import path_json


class Opened(msgspec.Struct):
    path: str
    loss: float | None = None


DECODER = msgspec.json.Decoder(Opened)


@pytest.mark.parametrize("path", ["data", "Größe", os.fsdecode(b"Gr\xf6\xdfe")])
def test_any_path_comes_back(path: str) -> None:
    assert path_json.decode(path_json.encode(Opened(path)), DECODER) == Opened(path)
    assert json.loads(path_json.indented(Opened(path))) == {"path": path, "loss": None}


@pytest.mark.parametrize("raw", [b"", b"{", b'{"path": 1}', b'{"path": "\\udcf6"', b"[1]"])
def test_anything_else_is_an_error(raw: bytes) -> None:
    with pytest.raises(msgspec.DecodeError):
        path_json.decode(raw, DECODER)
