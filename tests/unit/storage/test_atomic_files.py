"""Files are replaced completely or not at all."""

from __future__ import annotations

from pathlib import Path

import pytest

from mlxft.recipe import Recipe, load, save
from mlxft.storage.atomic_files import write_atomically


def test_a_failed_write_keeps_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "file"
    write_atomically(path, b"old")
    with pytest.raises(TypeError):
        write_atomically(path, None)  # type: ignore[arg-type]
    assert path.read_bytes() == b"old"


def test_a_recipe_keeps_its_mode_and_a_link_to_it(tmp_path: Path) -> None:
    target, link = tmp_path / "kept.yaml", tmp_path / "recipe.yaml"
    save(Recipe(iters=7), target)
    target.chmod(0o640)
    link.symlink_to(target)
    save(Recipe(iters=8), link)
    assert link.is_symlink()
    assert load(target).iters == 8
    assert target.stat().st_mode & 0o777 == 0o640
