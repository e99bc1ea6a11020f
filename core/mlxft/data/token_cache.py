"""A cache of token lengths and figures, so that opening a file again is instant."""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Final

import msgspec
import numpy as np

from mlxft import recipe as recipes
from mlxft.data.containers import stamp
from mlxft.data.token_figures import TokenFigures
from mlxft.data.token_statistics import TokenLengths
from mlxft.recipe import Recipe
from mlxft.storage.paths import cache_dir

KEPT: Final = 128
"""Newest files kept in the cache."""

_VERSION: Final = 13
"""Raised when tokenization or figures change, to invalidate older entries."""

_TOKENIZER_FILES: Final = (
    "tokenizer.json",
    "tokenizer.model",
    "tokenizer_config.json",
    "chat_template.jinja",
    "config.json",
    "generation_config.json",
)


def kept_lengths(path: Path, model: Path, recipe: Recipe) -> TokenLengths | None:
    """The cached lengths of a file's records by a model folder's tokenizer, if any."""
    try:
        with _lengths_file(path, model, recipe).open("rb") as file:
            rows = np.lib.format.read_array(file, allow_pickle=False)
            spans = np.lib.format.read_array(file, allow_pickle=False)
            refused = np.lib.format.read_array(file, allow_pickle=False)
            unmasked = np.lib.format.read_array(file, allow_pickle=False)
            foreign = np.lib.format.read_array(file, allow_pickle=False)
            refusal = np.lib.format.read_array(file, allow_pickle=False).tobytes().decode()
            lengths, lines, marks = rows
    except (OSError, ValueError):
        return None
    found = TokenLengths(
        lengths=lengths,
        spans=spans,
        records=0,
        lines=lines,
        marks=marks,
        refused=refused,
        unmasked=unmasked,
        foreign=foreign,
        refusal=refusal,
    )
    # Only whole files are cached.
    return replace(found, records=found.measured)


def keep_lengths(path: Path, model: Path, recipe: Recipe, found: TokenLengths) -> None:
    """Cache a file's lengths; does nothing if the cache can't be written."""
    rows = np.stack([found.lengths, found.lines, found.marks])
    target = _lengths_file(path, model, recipe)
    with contextlib.suppress(OSError), _written(target) as part, part.open("wb") as file:
        np.lib.format.write_array(file, rows, allow_pickle=False)
        refusal = np.frombuffer(found.refusal.encode(), np.uint8)
        for each in (found.spans, found.refused, found.unmasked, found.foreign, refusal):
            np.lib.format.write_array(file, each, allow_pickle=False)


def kept_figures(path: Path, recipe: Recipe) -> TokenFigures | None:
    """The figures of a file under this recipe, if measured before; needs no tokenizer."""
    try:
        return msgspec.json.decode(_figures_file(path, recipe).read_bytes(), type=TokenFigures)
    except (OSError, msgspec.DecodeError, UnicodeDecodeError):
        return None


def keep_figures(path: Path, recipe: Recipe, figures: TokenFigures) -> None:
    """Cache a whole file's figures; does nothing if the cache can't be written."""
    with contextlib.suppress(OSError), _written(_figures_file(path, recipe)) as part:
        part.write_bytes(msgspec.json.encode(figures))


@contextlib.contextmanager
def _written(path: Path) -> Iterator[Path]:
    """A temporary name, renamed to the path afterwards; then removes the oldest entries."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    part = path.with_name(f"{path.name}.{os.getpid()}")
    yield part
    part.replace(path)
    by_age = sorted(path.parent.iterdir(), key=lambda each: each.stat().st_mtime)
    for old in by_age[:-KEPT]:
        old.unlink(missing_ok=True)


def _lengths_file(path: Path, model: Path, recipe: Recipe) -> Path:
    tokenizer = [stamp(model / name) for name in _TOKENIZER_FILES]
    settings = recipes.token_settings(recipe, "tokens")
    return _file("npy", str(model), tokenizer, stamp(path), settings, _template(recipe))


def _figures_file(path: Path, recipe: Recipe) -> Path:
    return _file("json", stamp(path), recipes.token_settings(recipe), _template(recipe))


def _template(recipe: Recipe) -> object:
    """Which version of a template's file the recipe names."""
    file = recipe.template.file
    return None if file is None else stamp(file)


def _file(kind: str, *key: object) -> Path:
    whole = repr((_VERSION, *key)).encode("utf-8", "surrogateescape")
    digest = hashlib.blake2b(whole, digest_size=16)
    return cache_dir() / "tokens" / f"{digest.hexdigest()}.{kind}"
