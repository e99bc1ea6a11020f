"""What mlx's macOS wheels say about calls, kernels and dependencies; nothing here runs on a Mac.

``make wheels-check`` downloads the wheels of the installed version. A kernel's name says that it
was compiled, not what it computes.
"""

from __future__ import annotations

import ast
import hashlib
import os
import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator
from importlib import metadata
from itertools import product
from pathlib import Path
from types import ModuleType

import mlx.core as mx
import pytest

import mlxft
from mlxft.compute.training import attention, recurrent_layers

pytestmark = pytest.mark.wheels

MACOS = 14
PYTHONS = ("3.11", "3.12", "3.13", "3.14")
DTYPES = ("bfloat16", "float16")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], zipfile.ZipFile]:
    """Downloads a package's wheel for macOS; the test is skipped where no registry is reached."""
    folder = tmp_path_factory.mktemp("wheels")

    def download(package: str) -> zipfile.ZipFile:
        wanted = f"{package}=={metadata.version('mlx')}"
        platform = ("--platform", f"macosx_{MACOS}_0_arm64", "--python-version", "3.12")
        command = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", *platform]
        done = subprocess.run(
            [*command, "--only-binary", ":all:", "-d", folder, wanted],
            capture_output=True,
            text=True,
        )
        if done.returncode:
            pytest.skip(f"{wanted} could not be downloaded: {done.stderr.splitlines()[-1]}")
        (path,) = folder.glob(f"{package.replace('-', '_')}-*.whl")
        return zipfile.ZipFile(path)

    return download


@pytest.fixture(scope="module")
def kernels(wheel: Callable[[str], zipfile.ZipFile]) -> str:
    """The words of the compiled Metal kernels, one a line."""
    return _words(wheel("mlx-metal").read("mlx/lib/mlx.metallib"))


@pytest.fixture(scope="module")
def messages(wheel: Callable[[str], zipfile.ZipFile]) -> str:
    """The words of mlx's library, one a line."""
    return _words(wheel("mlx-metal").read("mlx/lib/libmlx.dylib"))


def _words(binary: bytes) -> str:
    return b"\n".join(re.findall(rb"[ -~]{6,}", binary)).decode()


class TestCalls:
    def test_python_files_are_those_of_the_tests(
        self, wheel: Callable[[str], zipfile.ZipFile]
    ) -> None:
        """So layers, optimizers and losses are the same on a Mac."""
        archive, installed = wheel("mlx"), Path(mx.__file__).parent
        names = [each for each in archive.namelist() if each.endswith(".py")]
        changed = [
            name
            for name in names
            if hashlib.sha256(archive.read(name)).digest()
            != hashlib.sha256((installed.parent / name).read_bytes()).digest()
        ]
        assert len(names) > 20
        assert changed == []

    def test_every_function_exists_with_the_arguments_it_is_given(
        self, wheel: Callable[[str], zipfile.ZipFile]
    ) -> None:
        known = _declared(wheel("mlx"))
        calls = set(_calls())
        unknown = {
            f"{name}({', '.join(sorted(given))})"
            for name, given in calls
            if name not in known or not any(given <= each for each in known[name])
        }
        assert len(calls) > 80
        assert unknown == set()


def _declared(archive: zipfile.ZipFile) -> dict[str, list[frozenset[str]]]:
    """Every name of ``mlx.core`` with the arguments of each of its forms, by the wheel's stubs."""
    found: dict[str, list[frozenset[str]]] = {}
    for path in archive.namelist():
        if not re.fullmatch(r"mlx/core/\w+\.pyi", path):
            continue
        module = "" if path.endswith("__init__.pyi") else f"{Path(path).stem}."
        for node in ast.parse(archive.read(path)).body:
            for name, arguments in _forms(node):
                found.setdefault(module + name, []).append(arguments)
    return found


def _forms(node: ast.stmt) -> Iterator[tuple[str, frozenset[str]]]:
    match node:
        case ast.FunctionDef(name=name, args=args):
            yield name, frozenset(each.arg for each in (*args.args, *args.kwonlyargs))
        case ast.ClassDef(name=name, body=body):
            yield name, frozenset()
            inits = [each for each in body if getattr(each, "name", "") == "__init__"]
            yield from ((name, form) for each in inits for _, form in _forms(each))
        case ast.AnnAssign(target=ast.Name(id=name)):
            yield name, frozenset()
        case ast.ImportFrom(names=names) | ast.Import(names=names):
            yield from ((each.asname or each.name, frozenset()) for each in names)
        case ast.Assign(targets=[ast.Name(id=name)]):
            yield name, frozenset()


def _calls() -> Iterator[tuple[str, frozenset[str]]]:
    """Every name of ``mlx.core`` that the project uses, and the arguments it names in calls."""
    for path in Path(mlxft.__file__).parent.rglob("*.py"):
        source = path.read_text()
        if "import mlx.core as mx" not in source:
            continue
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, ast.Call) and (name := _name(node.func)):
                yield name, frozenset(each.arg for each in node.keywords if each.arg)
            elif isinstance(node, ast.Attribute) and (name := _name(node)):
                # As mx.bfloat16.size, an attribute of a value and no name of a module.
                owner, _, _ = name.partition(".")
                is_module = isinstance(getattr(mx, owner, None), ModuleType)
                yield name if is_module else owner, frozenset()


def _name(node: ast.expr) -> str:
    """``fast.rope`` for the expression ``mx.fast.rope``; empty for what is not of ``mx``."""
    parts: list[str] = []
    while isinstance(node, ast.Attribute):
        parts.insert(0, node.attr)
        node = node.value
    return ".".join(parts) if isinstance(node, ast.Name) and node.id == "mx" else ""


class TestKernels:
    def test_attention_has_those_that_the_trainer_counts_on(self, kernels: str) -> None:
        fused = attention.FUSED["metal"]
        assert fused is not None
        for dtype, (query, value) in product(DTYPES, fused.heads):
            assert re.search(rf"steel_attention_{dtype}_\w+_bd{query}_bv{value}_", kernels)
            assert f"sdpa_vjp_odo_{dtype}_t_{value}" in kernels
            assert f"sdpa_vjp_ds_{dtype}_t" in kernels

    def test_attention_says_the_same_head_sizes(self, messages: str) -> None:
        fused = attention.FUSED["metal"]
        said = re.search(
            r"full attention kernel supports head dims\s+\{([\d, ]+)\} with matching", messages
        )
        assert fused is not None
        assert said is not None
        assert {int(each) for each in said[1].split(",")} == {q for q, v in fused.heads if q == v}
        assert "or (query, value) head dims (96, 64), " in messages

    def test_attention_under_a_mask_has_no_such_gradient(self, messages: str) -> None:
        """So the trainer attends in blocks there."""
        assert "backward pass does not support an array mask; only causal masking" in messages

    def test_delta_nets_have_those_that_the_trainer_counts_on(self, kernels: str) -> None:
        fused = recurrent_layers.FUSED["metal"]
        assert fused is not None
        size = fused.size
        for dtype in DTYPES:
            found = re.findall(
                rf"gated_delta_fused_chunk_{dtype}_t_{size}_{size}_(\d+)_(\d+)_8\b", kernels
            )
            assert {(int(k), int(v)) for k, v in found} == fused.heads

    def test_quantized_products_have_every_kind_that_trains(self, kernels: str) -> None:
        kinds = {
            f"affine_qmm_{{}}_{{}}_t_gs_{g}_b_{b}_"
            for g in (32, 64, 128)
            for b in (2, 3, 4, 5, 6, 8)
        }
        kinds |= {"mxfp4_qmm_{}_{}_t_gs_32_b_4_", "mxfp8_qmm_{}_{}_t_gs_32_b_8_"}
        kinds |= {"nvfp4_qmm_{}_{}_t_gs_16_b_4_"}
        wanted = {kind.format(way, dtype) for kind in kinds for way in "nt" for dtype in DTYPES}
        assert {each for each in wanted if each not in kernels} == set()


@pytest.mark.parametrize("python", PYTHONS)
def test_all_dependencies_have_wheels_for_macos(python: str) -> None:
    uv = shutil.which("uv", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    if uv is None:
        pytest.skip("uv, which resolves for another platform, is not installed")
    target = ("--python-platform", "aarch64-apple-darwin", "--python-version", python)
    project = Path(mlxft.__file__).parents[2] / "pyproject.toml"
    done = subprocess.run(
        [uv, "pip", "compile", "-q", "--only-binary", ":all:", *target, project],
        env={**os.environ, "MACOSX_DEPLOYMENT_TARGET": f"{MACOS}.0"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert f"mlx-metal=={metadata.version('mlx')}" in done.stdout
