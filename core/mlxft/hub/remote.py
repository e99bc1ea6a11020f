"""What the hub says of a model: its revision, and each file's size and checksum."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from fnmatch import fnmatch
from typing import Any, Final
from urllib.parse import quote

from mlxft.errors import ModelError
from mlxft.hub.access import endpoint, explained, hub_api, opened, understood
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
    with understood(name):
        info = hub_api().model_info(name, files_metadata=True, timeout=10)
        listed = [
            (each.rfilename, each.lfs.size, each.lfs.sha256, True)
            if each.lfs
            else (each.rfilename, each.size, each.blob_id, False)
            for each in info.siblings or ()
            if any(fnmatch(each.rfilename, pattern) for pattern in MODEL_FILES)
        ]
    if not isinstance(info.sha, str) or not info.sha.isalnum():
        raise ModelError(f"{name}: the hub names no revision of it; try again later.")
    files = tuple(RemoteFile(*_checked(name, each)) for each in listed)
    return RemoteModel(name, info.sha, files, bool(info.gated))


def _checked(name: str, listed: tuple[Any, ...]) -> tuple[str, int, str, bool]:
    """A file as the hub lists it. Raises `ModelError` for one that can't be stored or checked."""
    match listed:
        case str(path), int(size), str(etag), bool(is_large):
            if size >= 0 and _CHECKSUM.fullmatch(etag) and _is_inside(path):
                return path, size, etag, is_large
    raise ModelError(
        f"{name}: the hub lists {printable_line(str(listed[0]))} without size or checksum, or "
        "outside of the model; nothing was downloaded."
    )


_CHECKSUM: Final = re.compile(r"[0-9a-fA-F]{40}|[0-9a-fA-F]{64}")


def _is_inside(path: str) -> bool:
    parts = path.split("/")
    return not {"", ".", ".."}.intersection(parts) and "\\" not in path and path.isprintable()


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
