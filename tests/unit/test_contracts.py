"""The import contracts, checked in a fresh interpreter and in the import graph."""

from __future__ import annotations

import pkgutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import mlxft
import mlxft_tui

ROOT = Path(__file__).parents[2]
ARRAYS = ("mlx", "mlx_lm", "transformers")
SCREEN = ("textual", "plotext", "mlxft_tui")
LONGEST_FILE = 600
"""Lines; a longer file has more than one subject."""


def modules(package: object) -> list[str]:
    paths, name = package.__path__, package.__name__  # type: ignore[attr-defined]
    found = [each.name for each in pkgutil.walk_packages(paths, f"{name}.")]
    return sorted(each for each in found if not each.endswith("__main__"))


def imported_by(package: list[str], candidates: tuple[str, ...]) -> list[str]:
    code = (
        f"import sys, importlib; [importlib.import_module(each) for each in {package!r}]; "
        f"print(*[each for each in {candidates!r} if each in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120
    )
    return done.stdout.split()


def packages(package: object) -> dict[str, list[str]]:
    """Modules by package; each package is imported in a fresh interpreter."""
    found: dict[str, list[str]] = {}
    for module in modules(package):
        found.setdefault(module.split(".")[1], []).append(module)
    return found


CORE = packages(mlxft)
VIEWERS_OF_THE_ENGINE = [f"mlxft.engine.{each}" for each in ("client", "launch", "protocol")]


class TestContracts:
    @pytest.mark.parametrize("package", CORE)
    def test_the_core_knows_no_screen_and_only_compute_and_the_engine_process_load_mlx(
        self, package: str
    ) -> None:
        may_load = ARRAYS if package in ("compute", "engine") else ()
        assert set(imported_by(CORE[package], (*SCREEN, *ARRAYS))) <= set(may_load)

    def test_the_engines_client_side_loads_no_mlx(self) -> None:
        assert imported_by(VIEWERS_OF_THE_ENGINE, ARRAYS) == []

    def test_the_application_loads_no_mlx(self) -> None:
        assert imported_by(modules(mlxft_tui), (*ARRAYS, "mlxft.compute")) == []

    def test_the_contract_on_compute_names_every_other_package(self) -> None:
        contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]
        (sources,) = (
            each["source_modules"]
            for each in contracts["contracts"]
            if each.get("forbidden_modules") == ["mlxft.compute"]
        )
        others = {f"mlxft.{package}" for package in CORE if package not in ("compute", "engine")}
        assert set(sources) == {*others, *VIEWERS_OF_THE_ENGINE, "mlxft_tui"}

    def test_the_import_graph_keeps_the_layers(self) -> None:
        done = subprocess.run(
            [str(Path(sys.executable).with_name("lint-imports")), "--no-cache"],
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert done.returncode == 0, done.stdout

    def test_no_module_imports_in_a_circle(self) -> None:
        import grimp

        graph = grimp.build_graph("mlxft", "mlxft_tui")
        circles = []
        for module in sorted(graph.modules):
            for other in graph.find_modules_directly_imported_by(module):
                back = graph.find_shortest_chain(importer=other, imported=module)
                if back:
                    circles.append(back)
        assert circles == []


@pytest.mark.parametrize("folder", ["core", "tui", "tests", "benchmarks", "docs"])
def test_files_are_short(folder: str) -> None:
    lengths = {
        str(path.relative_to(ROOT)): len(path.read_text().splitlines())
        for path in (ROOT / folder).rglob("*.py")
    }
    assert lengths
    assert {path: lines for path, lines in lengths.items() if lines > LONGEST_FILE} == {}
