"""What is imported before the first paint, which decides how fast it is."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from mlxft.errors import MlxftError
from mlxft.storage.paths import keys_file
from mlxft_tui.app.own_keys import own_keys

HEAVY = ("numpy", "msgspec", "yaml", "psutil", "pyarrow", "plotext", "huggingface_hub", "json")

LIGHT_CORE = ("mlxft.errors", "mlxft.storage", "mlxft.text")

FIRST_PAINT = """
import sys
from pathlib import Path
from mlxft_tui.cli import main
from mlxft_tui.app import MlxftApp

class Probe(MlxftApp):
    CSS_PATH = Path(sys.modules[MlxftApp.__module__].__file__).with_name("app.tcss")

    def on_mount(self):
        self.call_after_refresh(self.probe)

    def probe(self):
        assert "[1 Data]" in self.export_screenshot().replace("&#160;", " ")
        sys.__stdout__.write("\\n".join(sys.modules))
        self.exit()

Probe(Path(sys.argv[1]), start_screen=True).run(headless=True, size=(120, 40))
"""

VERSION = """
import sys
from mlxft_tui.cli.main import main

try:
    main(["--version"])
except SystemExit:
    print(*sys.modules, sep="\\n")
"""


def heavy_modules(code: str, folder: Path) -> list[str]:
    """The modules that a program imports and that are worth importing later."""
    return [each for each in loaded_modules(code, folder) if is_heavy(each)]


def loaded_modules(code: str, folder: Path) -> list[str]:
    """The modules that a program prints."""
    program = folder / "program.py"
    program.write_text(code)
    done = subprocess.run(
        [sys.executable, str(program), str(folder)], capture_output=True, text=True, timeout=120
    )
    loaded = done.stdout.split()
    assert "mlxft_tui.cli.main" in loaded, done.stderr
    return loaded


def is_heavy(module: str) -> bool:
    if module.startswith("mlxft."):
        return not module.startswith(LIGHT_CORE)
    return module.split(".")[0] in HEAVY


@pytest.mark.parametrize("code", [FIRST_PAINT, VERSION], ids=["first paint", "version"])
def test_nothing_heavy_is_imported_before(code: str, tmp_path: Path) -> None:
    assert heavy_modules(code, tmp_path) == []


def test_the_version_needs_no_textual(tmp_path: Path) -> None:
    assert "textual" not in loaded_modules(VERSION, tmp_path)


def test_own_keys_are_checked_once(tmp_path: Path) -> None:
    keys_file().parent.mkdir()
    keys_file().write_text('"train.pause" = "f9"')
    assert "mlxft_tui.keymap" in loaded_modules(FIRST_PAINT, tmp_path)
    assert heavy_modules(FIRST_PAINT, tmp_path) == []
    assert own_keys(keys_file()) == {"train.pause": "f9"}
    keys_file().write_text('"train.puase" = "f9"')
    with pytest.raises(MlxftError, match=r"did you mean train\.pause"):
        own_keys(keys_file())
