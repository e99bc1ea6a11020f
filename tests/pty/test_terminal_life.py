"""The application in a real terminal: first screen, input, signals, hang-ups and sizes."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from mlxft import recipe as recipes
from mlxft.runs import events as ev
from mlxft.runs.directory import RunDirectory
from support.project import Project, events_of, eventually
from support.terminal import Terminal

Open = Callable[..., Terminal]

LEAVE_ALTERNATE_SCREEN = b"\x1b[?1049l"
SHOW_CURSOR = b"\x1b[?25h"


def steps_of(run: RunDirectory) -> int:
    return sum(isinstance(each, ev.StepFinished) for each in events_of(run))


def keeps_training(run: RunDirectory) -> bool:
    before = steps_of(run)
    eventually(lambda: steps_of(run) > before + 5)
    return run.is_live()


class TestFirstPaint:
    @pytest.mark.parametrize(("columns", "rows"), [(80, 24), (120, 40), (200, 60)])
    def test_the_first_screen_names_the_five_screens(
        self, project: Project, open_app: Open, columns: int, rows: int
    ) -> None:
        terminal = open_app([project.folder], columns, rows)
        for title in ("Data", "Recipe", "Train", "Chat", "Runs"):
            terminal.wait_for(title)

    def test_an_empty_folder_is_no_error(self, tmp_path: Path, open_app: Open) -> None:
        terminal = open_app([tmp_path])
        terminal.wait_for("train.jsonl")
        assert "Traceback" not in terminal.text


class TestFastInput:
    def test_screens_can_be_switched_faster_than_they_are_painted(
        self, project: Project, open_app: Open
    ) -> None:
        keys = ["\x1bOP", "\x1bOQ", "\x1bOR", "\x1bOS", "\x1b[15~"]
        for turn in range(4):
            terminal = open_app([project.folder], 80, 24)
            terminal.wait_for("Data")
            for number in range(40):
                terminal.send(keys[(number * 3 + turn) % 5])
            terminal.send(keys[4])
            terminal.wait_for("[5 Runs]")

    def test_an_unresolvable_path_is_reported(self, project: Project, open_app: Open) -> None:
        recipe = recipes.apply_settings(project.recipe, ["data=~nobody-here/x"])
        recipes.save(recipe, project.folder / "recipe.yaml")
        terminal = open_app([project.folder])
        terminal.wait(lambda: "this folder doesn't exist" in " ".join(terminal.text.split()))


class TestInput:
    @pytest.mark.parametrize(
        ("typed", "shown"),
        [
            (b"caf\xe9 noir", "caf\N{REPLACEMENT CHARACTER} noir"),
            (b"\x1b[200~caf\xe9 noir\x1b[201~", "caf\N{REPLACEMENT CHARACTER} noir"),
            ("café noir".encode(), "café noir"),
        ],
    )
    def test_invalid_bytes_are_replaced(
        self, project: Project, open_app: Open, typed: bytes, shown: str
    ) -> None:
        terminal = open_app([project.folder])
        terminal.wait_for("Data")
        terminal.send("4")
        terminal.wait_for("[4 Chat]")
        terminal.send_bytes(typed)
        terminal.wait_for(shown)

    @pytest.mark.parametrize(
        "report",
        [
            b"\x1b[97;5:3u",
            b"\x1b[97:65;2u",
            b"\x1b[1114112u",
            b"\x1b[48;40;120;0;0t\x1b[<0;10;10M",
        ],
    )
    def test_unreadable_key_reports_are_ignored(
        self, project: Project, open_app: Open, report: bytes
    ) -> None:
        terminal = open_app([project.folder])
        terminal.wait_for("Data")
        terminal.send_bytes(report)
        terminal.wait_quiet(0.3)
        terminal.send("4")
        terminal.wait_for("[4 Chat]")

    def test_a_paste_with_escapes_is_text(self, project: Project, open_app: Open) -> None:
        terminal = open_app([project.folder])
        terminal.wait_for("Data")
        terminal.send("4")
        terminal.wait_for("[4 Chat]")
        terminal.send_bytes(b"\x1b[200~one \x1b[31mtwo\x1b[0m three\nfour\x1b[201~ five")
        terminal.wait_for("four five")
        terminal.wait_for("esc Leave prompt")
        assert "two" in terminal.text.split("one ")[-1].split(" three")[0]

    def test_keys_are_decoded_in_the_terminals_encoding(
        self, project: Project, open_app: Open
    ) -> None:
        terminal = open_app([project.folder], environment={"PYTHONIOENCODING": "latin-1"})
        terminal.wait_for("Data")
        terminal.send("4")
        terminal.wait_for("[4 Chat]")
        terminal.send_bytes("café noir".encode("latin-1"))
        terminal.wait(lambda: "é".encode("latin-1") in terminal.output)


class TestSignals:
    @pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGHUP, 129)])
    def test_a_signal_restores_the_terminal(
        self, project: Project, open_app: Open, number: signal.Signals, code: int
    ) -> None:
        terminal = open_app([project.folder])
        terminal.wait_for("Data")
        terminal.process.send_signal(number)
        assert terminal.exit_code() == code
        assert LEAVE_ALTERNATE_SCREEN in terminal.output
        assert terminal.output.rindex(SHOW_CURSOR) > 0

    def test_a_hang_up_ends_the_viewer_but_not_the_run(
        self, project: Project, open_app: Open
    ) -> None:
        run = project.start()
        terminal = open_app(["attach", run.path])
        terminal.wait_for("RUNNING")
        terminal.hang_up()
        terminal.exit_code()
        assert keeps_training(run)

    def test_killing_the_viewer_keeps_the_run(self, project: Project, open_app: Open) -> None:
        run = project.start()
        terminal = open_app(["attach", run.path])
        terminal.wait_for("RUNNING")
        terminal.process.kill()
        assert keeps_training(run)
        again = open_app(["attach"], folder=project.folder)
        again.wait_for("RUNNING")

    def test_q_detaches_and_says_so(self, project: Project, open_app: Open) -> None:
        run = project.start()
        terminal = open_app(["attach", run.path])
        terminal.wait_for("RUNNING")
        terminal.send("q")
        assert terminal.exit_code() == 0
        assert f"{run.name} keeps running".encode() in terminal.output
        assert keeps_training(run)


class TestKilledEngine:
    def test_a_viewer_shows_the_lost_run(self, project: Project, open_app: Open) -> None:
        run = project.start()
        terminal = open_app(["attach", run.path])
        terminal.wait_for("RUNNING")
        (started,) = [each for each in events_of(run) if isinstance(each, ev.RunStarted)]
        os.kill(started.pid, signal.SIGKILL)
        terminal.wait_for("LOST")


class TestSizes:
    def test_any_size_works(self, project: Project, open_app: Open) -> None:
        run = project.start()
        terminal = open_app(["attach", run.path])
        terminal.wait_for("RUNNING")
        for columns, rows in ((80, 24), (40, 12), (200, 60), (20, 5), (120, 40)):
            terminal.resize(columns, rows)
            terminal.wait(lambda c=columns: max(map(len, terminal.text.splitlines())) == c)  # type: ignore[misc]
        terminal.wait_for("RUNNING")
        assert terminal.process.poll() is None


class TestSlowLink:
    def test_watching_a_fast_run_over_ssh_costs_at_most_15_kilobytes_per_second(
        self, project: Project, open_app: Open
    ) -> None:
        run = project.start("steps_per_report=1000")
        terminal = open_app(["attach", run.path], environment={"SSH_CONNECTION": "a 1 b 2"})
        terminal.wait_for("RUNNING")
        start, before = time.monotonic(), len(terminal.output)
        target = steps_of(run) + 300
        eventually(lambda: steps_of(run) > target and time.monotonic() > start + 5)
        rate = (len(terminal.output) - before) / (time.monotonic() - start)
        assert rate < 15_000
