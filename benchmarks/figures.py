"""What benchmarks print, and where the processes that they start keep their files."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path


def print_figures(figures: Mapping[str, float], *, as_json: bool) -> None:
    """Print the figures one a line, or as one line of JSON."""
    if as_json:
        print(json.dumps(figures))
        return
    width = max(map(len, figures), default=0) + 2
    for name, value in figures.items():
        print(f"{name:{width}}{value:g}")


@contextmanager
def own_folders(*, cache: bool = True) -> Iterator[Path]:
    """A folder that is deleted afterwards, with this process's state, logs and peaks in it.

    Its path is short, since sockets are in it. Without `cache` the user's own cache is used, with
    the models in it.
    """
    with tempfile.TemporaryDirectory(prefix="mlxft-", dir="/tmp") as folder:
        for name in ("RUNTIME", "STATE", "LOGS", *(["CACHE"] if cache else [])):
            os.environ[f"MLXFT_{name}"] = f"{folder}/{name.lower()}"
        os.environ["MLXFT_PEAKS"] = f"{folder}/peaks.jsonl"
        yield Path(folder)
