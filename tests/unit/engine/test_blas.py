"""The links that let a fast BLAS find its Fortran runtime."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from mlxft.engine.blas import blas_environment

BUNDLED = ("libblas-bd8a.so.3.10.0", "libgfortran-f737.so.5.0.0", "libquadmath-a962.so.0.0.0")


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The libraries of an installed mlx-cpu wheel, on Linux."""
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.delenv("LD_LIBRARY_PATH", raising=False)
    monkeypatch.setenv("MLXFT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("MLXFT_RUNTIME", str(tmp_path / "runtime"))
    bundled = tmp_path / "site" / "mlx_cpu.libs"
    bundled.mkdir(parents=True)
    for name in BUNDLED:
        (bundled / name).touch()
    return bundled


def environment(installed: Path) -> dict[str, str]:
    return blas_environment(["nowhere", str(installed.parent)])


class TestBlasEnvironment:
    def test_each_library_is_linked_under_its_own_and_its_system_name(
        self, tmp_path: Path, installed: Path
    ) -> None:
        links = Path(environment(installed)["LD_LIBRARY_PATH"])
        targets = {each.name: os.readlink(each) for each in links.iterdir()}
        own = {name: str(installed / name) for name in BUNDLED}
        assert targets == own | {
            "libgfortran.so.5": str(installed / BUNDLED[1]),
            "libquadmath.so.0": str(installed / BUNDLED[2]),
        }

    def test_a_second_call_creates_nothing(self, tmp_path: Path, installed: Path) -> None:
        first = environment(installed)
        assert environment(installed) == first
        assert len(list((tmp_path / "cache" / "blas").iterdir())) == 1

    def test_another_installation_gets_links_of_its_own(
        self, tmp_path: Path, installed: Path
    ) -> None:
        first = environment(installed)
        installed.parent.rename(tmp_path / "elsewhere")
        second = environment(tmp_path / "elsewhere" / installed.name)
        assert first != second

    def test_the_users_own_libraries_stay_on_the_path(
        self, tmp_path: Path, installed: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("LD_LIBRARY_PATH", "/opt/lib")
        path = environment(installed)["LD_LIBRARY_PATH"]
        assert path.endswith(":/opt/lib")

    def test_nothing_is_set_where_the_wheel_is_not_installed(self, tmp_path: Path) -> None:
        assert blas_environment([str(tmp_path)]) == {}

    def test_without_a_cache_links_are_kept_in_a_private_folder_and_renewed_there(
        self, tmp_path: Path, installed: Path
    ) -> None:
        (tmp_path / "cache").touch()
        links = Path(environment(installed)["LD_LIBRARY_PATH"])
        assert links.is_relative_to(tmp_path / "runtime")
        assert (tmp_path / "runtime").stat().st_mode & 0o777 == 0o700
        (links / "libgfortran.so.5").unlink()
        assert environment(installed) == {"LD_LIBRARY_PATH": str(links)}
        assert (links / "libgfortran.so.5").is_symlink()

    def test_a_folder_that_others_can_write_is_not_loaded_from(
        self, tmp_path: Path, installed: Path
    ) -> None:
        (tmp_path / "cache").touch()
        (tmp_path / "runtime").mkdir()
        (tmp_path / "runtime").chmod(0o777)
        assert environment(installed) == {}
