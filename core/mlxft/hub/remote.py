"""What the hub says of a model: its revision, and each file's size and checksum."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from fnmatch import fnmatch
from typing import Any, Final
from urllib.parse import quote

from mlxft.errors import ModelError
from mlxft.hub.access import endpoint, explained, hub_api, opened
from mlxft.text.printable import printable_line

MODEL_FILES: Final = (
    *("*.json", "model*.safetensors", "*.py", "tokenizer.model", "*.tiktoken", "tiktoken.model"),
    *("*.txt", "*.jsonl", "*.jinja"),
)
"""The files that mlx-lm downloads of a model."""

LARGEST_CONFIG: Final = 10_000_000
"""Bytes of a config.json that are read before a download."""

CHUNK: Final = 256 * 1024


@dataclass(frozen=True)
class RemoteFile:
    """A file on the hub: `etag` is the sha256 of a large one, else git's checksum."""

    path: str
    size: int
    etag: str
    is_large: bool


@dataclass(frozen=True)
class RemoteModel:
    """A model's files at one revision."""

    name: str
    revision: str
    files: tuple[RemoteFile, ...]
    locked: bool = False
    """Whether its files may need a licence that was accepted."""

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(each.size for each in self.files)

    def address(self, path: str) -> str:
        """Where a file is downloaded from."""
        return f"{endpoint(os.environ)}/{self.name}/resolve/{self.revision}/{quote(path)}"


def remote_model(name: str) -> RemoteModel:
    """A model's files that a run needs. Raises `ModelError`."""
    with explained(name):
        info = hub_api().model_info(name, files_metadata=True, timeout=10)
    files: list[RemoteFile] = []
    for each in info.siblings or ():
        path, etag = each.rfilename, each.lfs.sha256 if each.lfs else each.blob_id
        size = each.lfs.size if each.lfs else each.size
        if not any(fnmatch(path, pattern) for pattern in MODEL_FILES):
            continue
        if size is None or not etag or not etag.isalnum() or not _is_inside(path):
            raise ModelError(
                f"{name}: the hub lists {printable_line(path)} without size or checksum, or "
                "outside of the model; nothing was downloaded."
            )
        files.append(RemoteFile(path, size, etag, each.lfs is not None))
    if not info.sha or not info.sha.isalnum():
        raise ModelError(f"{name}: the hub names no revision of it; try again later.")
    return RemoteModel(name, info.sha, tuple(files), bool(info.gated))


def _is_inside(path: str) -> bool:
    return not {"", ".", ".."}.intersection(path.split("/")) and "\\" not in path


def remote_config(model: RemoteModel) -> Mapping[str, Any]:
    """A model's config.json, read without keeping it. Raises `ModelError`."""
    raw = b""
    with explained(model.name), opened(model.address("config.json")) as response:
        for chunk in response.iter_bytes():
            raw += chunk
            if len(raw) > LARGEST_CONFIG:
                raise ModelError(f"{model.name}: its config.json is too large to be one.")
    try:
        config = json.loads(raw)
    except (ValueError, RecursionError):
        config = None
    if not isinstance(config, dict):
        raise ModelError(f"{model.name}: its config.json is not a model's config.")
    return config
