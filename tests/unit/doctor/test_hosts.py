"""The machines of a recipe's hosts, asked over a stand-in for ssh that is first on the PATH."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import pytest

from mlxft import recipe as recipes
from mlxft.doctor.checkup import Report
from mlxft.doctor.finding import Finding
from mlxft.doctor.hosts import judged
from mlxft.doctor.hosts.check import check_machines
from mlxft.doctor.hosts.described import Description
from mlxft.doctor.hosts.ssh import ask
from mlxft.hosts import Host
from mlxft.recipe import Recipe
from mlxft_tui.cli.main import main
from support.models import make_tiny_data, make_tiny_model

SSH = r"""#!/bin/sh
while [ "$1" != -- ]; do echo "$1" >>"$SSH_LOG"; shift; done
case "$2" in
  same) echo "Welcome to $2"; exec sh -c "$3" ;;
  old) sh -c "$3" | sed 's/"mlx":"[^"]*"/"mlx":"0.1.0"/; s/"model":"[^"]*"/"model":""/' ;;
  hostile)
    printf 'mlxft-host: {"versions": {"mlx": "\\u001b[31m0\\u202e9"}, "model": "\\u001b]0;x"}\n' ;;
  denied) printf '\033[2Jdenied: Permission denied (publickey).\n' >&2; exit 255 ;;
  bare) echo "sh: python: not found" >&2; exit 127 ;;
  elsewhere) cd / && exec sh -c "$(echo "$3" | sed 's/cd /cd none/')" ;;
  silent) exit 0 ;;
  flood) exec yes ;;
  slow) exec sleep 600 ;;
esac
"""


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project in a folder whose name a shell could take for more words, and the stand-in."""
    folder = tmp_path / "it's $(touch pwned); a project"
    folder.mkdir()
    make_tiny_model(folder / "model")
    make_tiny_data(folder / "data")
    tools = tmp_path / "tools"
    tools.mkdir()
    (tools / "ssh").write_text(SSH)
    (tools / "ssh").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tools}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("SSH_LOG", str(tmp_path / "ssh.log"))
    return folder


def recipe_of(*hosts: str) -> Recipe:
    named = ", ".join(f"{each}@10.0.0.{n}" for n, each in enumerate(hosts, 2))
    settings = ["model=model", "data=data", f"hosts=localhost, {named}"]
    return recipes.apply_settings(Recipe(), settings)


def found(report: Report, name: str) -> dict[str, Finding]:
    """A machine's findings by subject."""
    section = next(each for each in report.sections if each.title == name)
    return {each.subject: each for each in section.findings}


def test_a_machine_like_this_one_and_others_that_are_not(project: Path, tmp_path: Path) -> None:
    hosts = ("same", "old", "hostile", "denied", "bare", "elsewhere", "silent", "flood")
    report = check_machines(recipe_of(*hosts), project)

    same = found(report, "same")
    assert {name: each.verdict for name, each in same.items()} == dict.fromkeys(
        ("ssh", "versions", "model", "data", "memory", "address"), "ok"
    )
    old = found(report, "old")
    assert "mlx 0.1.0, here " in old["versions"].seen
    assert old["versions"].remedy is not None
    assert "mlx==" in old["versions"].remedy
    assert (old["model"].verdict, old["model"].seen) == ("problem", "no weights of model")
    assert "ssh-copy-id denied" in str(found(report, "denied")["ssh"].remedy)
    assert "environment at the same path" in str(found(report, "bare")["mlxft-tui"].remedy)
    assert f"no folder {project}" == found(report, "elsewhere")["folder"].seen
    assert "with status 0" in found(report, "silent")["mlxft-tui"].seen
    assert found(report, "flood")["mlxft-tui"].verdict == "problem"
    assert "can't reach" in found(report, "this machine")["address"].seen

    everything = "".join(f"{each.seen}{each.remedy}" for each in report.findings)
    assert not {"\x1b", "\u202e"} & set(everything)
    assert not [*tmp_path.rglob("pwned")]
    assert "BatchMode=yes" in (tmp_path / "ssh.log").read_text()


def test_a_machine_that_does_not_answer_in_time_is_a_problem(project: Path) -> None:
    started = time.monotonic()
    answer = ask("slow", ["true"], project, b"", seconds=0.2)
    assert answer.status is None
    assert time.monotonic() - started < 300
    (finding,) = judged.of_answer(
        Host(name="slow"),
        1,
        answer,
        judged.Expected(here=Description(), model="m", folder="f", python="p", need={}),
    )
    assert (finding.verdict, finding.seen) == ("problem", "no answer in time")


def test_the_command_prints_json_and_exits_with_1_for_a_problem(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipes.save(recipes.replace(recipe_of("same"), "hosts", 2), project / "recipe.yaml")
    command = ["check-hosts", str(project / "recipe.yaml"), "--dir", str(project), "--json"]
    assert main(command) == 0
    printed = json.loads(capsys.readouterr().out)
    assert [each["title"] for each in printed["sections"]] == ["this machine, 2 ranks"]
    assert "by 2 ranks" in printed["sections"][0]["findings"][0]["seen"]
    assert main([*command, "--set", "hosts=203.0.113.7, silent"]) == 1
    said = "the first host is this machine; {} isn't its name or address"
    assert said.format("203.0.113.7") in " ".join(capsys.readouterr().out.split())
    assert main([*command, "--set", "hosts=nosuch-host.invalid, silent"]) == 1
    assert said.format("nosuch-host.invalid") in " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize(
    ("kind", "ranks", "verdict", "said"),
    [
        ("metal", 1, "ok", "6.00 of 16.0 GB needed"),
        ("metal", 3, "problem", "18.0 of 16.0 GB needed by 3 ranks"),
        ("cuda", 3, "ok", "6.00 of 16.0 GB needed on each GPU"),
    ],
)
def test_ranks_of_one_machine_share_its_memory_but_not_its_gpus(
    kind: judged.MachineKind, ranks: int, verdict: str, said: str
) -> None:
    machine = Description(kind=kind, limit=16 * 10**9)
    finding = judged.memory_finding(ranks, machine, {kind: 6 * 10**9})
    assert (finding.verdict, finding.seen) == (verdict, said)
