"""Past conversations on the command line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from mlxft.chat import history
from mlxft.chat.history import HistoryEntry
from mlxft.conversation.messages import Message
from mlxft_tui.cli.main import main


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """Two conversations: one of two prompts, side by side at first, and one that was stopped."""
    for number, (name, answerer, prompts, end) in enumerate(
        [
            ("aa11", "base", ["One"], "stop"),
            ("aa11", "own-1@", ["One"], "stop"),
            ("aa11", "own-1@", ["One", "Two"], "stop"),
            ("ab22", "base", ["Three"], "cancelled"),
        ]
    ):
        said = [
            message
            for prompt in prompts
            for message in (Message("user", prompt), Message("assistant", f"{answerer} {prompt}"))
        ]
        entry = HistoryEntry(
            messages=tuple(said),
            answerer=answerer,
            title=answerer,
            model="demo",
            time=float(number),
            conversation=name,
            turn=len(prompts),
            after=len(prompts) - 1,
            column=int(answerer != "base"),
            end=end,  # type: ignore[arg-type]
        )
        history.remember(tmp_path / "adapters" / history.HISTORY_NAME, entry)
    return tmp_path


def listed(project: Path, capsys: pytest.CaptureFixture[str]) -> dict[str, int]:
    """The prompts of each conversation."""
    assert main(["conversations", "--json", "--dir", str(project)]) == 0
    return {each["conversation"]: each["prompts"] for each in json.loads(capsys.readouterr().out)}


def test_they_are_listed_and_deleted(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert listed(project, capsys) == {"ab22": 1, "aa11": 2}
    assert main(["delete-conversation", "ab", "--dir", str(project)]) == 0
    assert "Deleted ab22: Three" in capsys.readouterr().out
    assert listed(project, capsys) == {"aa11": 2}


def test_the_adapters_side_is_exported(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = project / "out.jsonl"
    command = ["export-conversation", "aa11", "ab22", "--out", str(file), "--dir", str(project)]
    assert main(command) == 0
    (record,) = [json.loads(line) for line in file.read_text().splitlines()]
    assert [each["content"] for each in record["messages"]] == [
        *("One", "own-1@ One", "Two", "own-1@ Two")
    ]
    assert "ab22: skipped 1 prompt without a complete answer" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("name", "says"), [("a", "several conversations begin with it"), ("x", "no such conversation")]
)
def test_a_name_must_mean_one(
    project: Path, capsys: pytest.CaptureFixture[str], name: str, says: str
) -> None:
    assert main(["delete-conversation", name, "--dir", str(project)]) == 1
    assert says in capsys.readouterr().err
