"""Transformers' models, which it lists at its import at most once, or as the cache has them."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from transformers.utils.import_utils import (
    create_import_structure_from_path,
    define_import_structure,
)

from mlxft.compute import backend as backend  # Imports transformers as an engine does.
from mlxft.compute.listed_models import KeptListing
from mlxft.storage.paths import cache_dir


def test_they_are_those_that_transformers_lists_itself() -> None:
    models = sys.modules["transformers.models"]
    listed = type(models)(
        models.__name__, models.__file__, define_import_structure(models.__file__)
    )
    assert models._class_to_module == listed._class_to_module
    assert models._modules == listed._modules
    missing, expected = models._object_missing_backend, listed._object_missing_backend
    assert {name: set(needed) for name, needed in missing.items()} == {
        name: set(needed) for name, needed in expected.items()
    }


class TestKeptListing:
    @pytest.fixture
    def folder(self, tmp_path: Path) -> Path:
        """Two models, one of which needs something that may be missing."""
        for name in ("albert", "llama"):
            (tmp_path / name).mkdir()
            (tmp_path / name / "__init__.py").touch()
            for kind in ("configuration", "modeling"):
                file = tmp_path / name / f"{kind}_{name}.py"
                file.write_text(f'__all__ = ["{name.title()}{kind.title()}"]\n')
        (tmp_path / "__init__.py").touch()
        return tmp_path

    @pytest.fixture
    def listed(self, folder: Path) -> Callable[..., Any]:
        """Lists the folder as a new process does; fails where it would have to read the files."""

        def list_(path: Path = folder, prefix: str | None = None, *, reads: bool = False) -> Any:
            return KeptListing(define_import_structure if reads else pytest.fail, folder)(
                path, prefix
            )

        cache_dir().mkdir()
        return list_

    def test_is_what_was_listed_without_reading_it_again(
        self, folder: Path, listed: Callable[..., Any]
    ) -> None:
        expected = define_import_structure(folder)
        assert len(expected) > 1
        assert listed(reads=True) == expected
        assert listed() == listed(folder / "__init__.py") == expected
        assert listed(prefix="models") == define_import_structure(folder, prefix="models")

    def test_may_be_changed_by_who_asked(self, folder: Path) -> None:
        """Transformers adds its own modules to it."""
        listing = KeptListing(define_import_structure, folder)
        listing(folder)[frozenset()]["added"] = {"Added"}
        assert "added" not in listing(folder)[frozenset()]

    def test_is_read_again_after_another_version_was_installed(
        self, folder: Path, listed: Callable[..., Any]
    ) -> None:
        before = listed(reads=True)
        (folder / "qwen.py").write_text('__all__ = ["Qwen"]\n')
        os.utime(folder / "__init__.py", (2**32, 2**32))
        define_import_structure.cache_clear()
        create_import_structure_from_path.cache_clear()
        assert listed(reads=True) != before
        assert listed()[frozenset()]["qwen"] == {"Qwen"}

    def test_is_read_again_where_the_cache_is_damaged_or_cant_be_written(
        self, folder: Path, listed: Callable[..., Any]
    ) -> None:
        expected = listed(reads=True)
        (file,) = cache_dir().iterdir()
        file.write_bytes(b'{"folder": 3')
        assert listed(reads=True) == expected
        file.unlink()
        file.mkdir()
        assert listed(reads=True) == expected

    def test_is_not_of_other_folders(self, folder: Path) -> None:
        listing = KeptListing(define_import_structure, folder)
        assert listing(folder / "llama") == define_import_structure(folder / "llama")
