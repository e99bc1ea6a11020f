"""Shell completion, asked as the shells ask."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from mlxft.recipe import PARAMETERS
from mlxft_tui.cli.main import main


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for run in ("lamp-lora-1", "lamp-lora-2"):
        (tmp_path / "adapters" / run).mkdir(parents=True)
        (tmp_path / "adapters" / run / "recipe.yaml").touch()
    (tmp_path / "recipe.yaml").touch()
    (tmp_path / "records.csv").touch()
    (tmp_path / "data").mkdir()
    monkeypatch.chdir(tmp_path)
    return tmp_path


def completions(line: str) -> list[str]:
    """What the command answers on descriptor 8 to a line with the cursor at its end."""
    reader, writer = os.pipe()
    command = f"{shlex.quote(sys.executable)} -m mlxft_tui.cli 8>&{writer}"
    environment = {
        **os.environ,
        "_ARGCOMPLETE": "1",
        "_ARGCOMPLETE_IFS": "\n",
        "_ARGCOMPLETE_SUPPRESS_SPACE": "1",
        "COMP_LINE": line,
        "COMP_POINT": str(len(line)),
    }
    with os.fdopen(reader) as answer:
        done = subprocess.run(
            ["bash", "-c", command], env=environment, pass_fds=[writer], capture_output=True
        )
        os.close(writer)
        assert (done.returncode, done.stdout) == (0, b"")
        return answer.read().splitlines()


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("ch", ["chat", "check-data", "check-hosts"]),
        ("attach ", ["lamp-lora-1", "lamp-lora-2"]),
        (
            "evaluate lamp-lora-1 --compare ",
            ["base", "lamp-lora-1", "lamp-lora-2", "adapters/", "data/"],
        ),
        ("chat --adapter lamp-lora-2", ["lamp-lora-2"]),
        ("train r", ["recipe.yaml"]),
        ("train recipe.yaml --set iter", ["iters="]),
        ("train --set iters=5 rec", ["recipe.yaml"]),
        ("train recipe.yaml --set packing=", ["packing=true", "packing=false"]),
        ("train recipe.yaml --de", ["--detach"]),
        ("check-data re", ["recipe.yaml", "records.csv"]),
        ("runs --dir d", ["data/"]),
        ("runs diff lamp-lora-2 lamp", ["lamp-lora-1", "lamp-lora-2"]),
        ("runs --columns loss,best_validation_s", ["loss,best_validation_step"]),
        ("completion ", ["bash", "zsh", "fish"]),
    ],
)
def test_a_word_is_completed(project: Path, words: str, expected: list[str]) -> None:
    found = completions(f"mlxft-tui {words}")
    assert [each for each in found if not each.startswith("--") or "--" in words] == expected


def test_every_recipe_key_is_offered(project: Path) -> None:
    found = completions("mlxft-tui train recipe.yaml --set ")
    assert {f"{key}=" for key in PARAMETERS} <= {*found}


@pytest.mark.skipif(shutil.which("bash") is None, reason="bash is not installed")
def test_bash_completes_after_the_script_is_evaluated(project: Path, tmp_path: Path) -> None:
    program = tmp_path / "bin" / "mlxft-tui"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m mlxft_tui.cli "$@"\n')
    program.chmod(0o755)
    script = """
        eval "$(mlxft-tui completion bash)"
        COMP_WORDS=(mlxft-tui attach lamp-lora-) COMP_CWORD=2
        COMP_LINE='mlxft-tui attach lamp-lora-' COMP_POINT=27 COMP_TYPE=9
        _python_argcomplete mlxft-tui lamp-lora- attach
        printf '%s\\n' "${COMPREPLY[@]}"
    """
    path = f"{program.parent}:{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "-c", script], capture_output=True, text=True, env={**os.environ, "PATH": path}
    )
    assert done.stdout.split() == ["lamp-lora-1", "lamp-lora-2"], done.stderr


@pytest.mark.parametrize(
    ("shell", "registers"),
    [("bash", "complete "), ("zsh", "compdef "), ("fish", "complete --command mlxft-tui")],
)
def test_each_shell_gets_its_script(
    shell: str, registers: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["completion", shell]) == 0
    assert registers in capsys.readouterr().out


def test_other_commands_do_not_import_it() -> None:
    code = (
        "import sys; from mlxft_tui.cli.main import main; main(['runs']);"
        "sys.exit('argcomplete' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True).returncode == 0
