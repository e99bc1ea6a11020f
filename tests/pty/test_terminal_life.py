"""The application in a real terminal: its first screen, signals, a lost link, sizes and bytes."""

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
from support.project import Project, events_of
from support.terminal import Terminal
from support.waiting import eventually

Open = Callable[..., Terminal]

LEAVE_ALTERNATE_SCREEN = b"\x1b[?1049l"
SHOW_CURSOR = b"\x1b[?25h"


def steps_of(run: RunDirectory) -> int:
    return sum(isinstance(each, ev.StepFinished) for each in events_of(run))


def goes_on(run: RunDirectory) -> bool:
    before = steps_of(run)
    eventually(lambda: steps_of(run) > before + 5)
    return run.is_live()


class TestFirstPaint:
    @pytest.mark.parametrize(("columns", "rows"), [(80, 24), (120, 40), (200, 60)])
    def test_the_five_places_are_on_the_first_screen(
        self, project: Project, open_app: Open, columns: int, rows: int
    ) -> None:
        terminal = open_app([project.folder], columns, rows)
        for place in ("Data", "Recipe", "Train", "Chat", "Runs"):
            terminal.wait_for(place)

    def test_an_empty_folder_is_no_error(self, tmp_path: Path, open_app: Open) -> None:
        terminal = open_app([tmp_path])
        terminal.wait_for("train.jsonl")
        assert "Traceback" not in terminal.text


class TestImpatience:
    def test_places_can_be_switched_faster_than_they_are_painted(
        self, project: Project, open_app: Open
    ) -> None:
        places = ["\x1bOP", "\x1bOQ", "\x1bOR", "\x1bOS", "\x1b[15~"]
        for turn in range(4):
            terminal = open_app([project.folder], 80, 24)
            terminal.wait_for("Data")
            for number in range(40):
                terminal.send(places[(number * 3 + turn) % 5])
            terminal.send(places[4])
            terminal.wait_for("[5 Runs]")

    def test_a_path_that_can_be_none_is_no_failure(self, project: Project, open_app: Open) -> None:
        recipe = recipes.apply_settings(project.recipe, ["data=~nobody-here/x"])
        recipes.save(recipe, project.folder / "recipe.yaml")
        terminal = open_app([project.folder])
        terminal.wait(lambda: "this folder doesn't exist" in " ".join(terminal.text.split()))


class TestBytes:
    @pytest.mark.parametrize(
        ("typed", "shown"),
        [
            (b"caf\xe9 noir", "caf\N{REPLACEMENT CHARACTER} noir"),
            (b"\x1b[200~caf\xe9 noir\x1b[201~", "caf\N{REPLACEMENT CHARACTER} noir"),
            ("café noir".encode(), "café noir"),
        ],
    )
    def test_any_byte_that_is_typed_or_pasted_is_survived(
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
    def test_a_report_that_cant_be_read_is_survived(
        self, project: Project, open_app: Open, report: bytes
    ) -> None:
        terminal = open_app([project.folder])
        terminal.wait_for("Data")
        terminal.send_bytes(report)
        terminal.wait_quiet(0.3)
        terminal.send("4")
        terminal.wait_for("[4 Chat]")

    def test_what_is_pasted_is_text_whatever_it_holds(
        self, project: Project, open_app: Open
    ) -> None:
        terminal = open_app([project.folder])
        terminal.wait_for("Data")
        terminal.send("4")
        terminal.wait_for("[4 Chat]")
        terminal.send_bytes(b"\x1b[200~one \x1b[31mtwo\x1b[0m three\nfour\x1b[201~ five")
        terminal.wait_for("four five")
        terminal.wait_for("esc Leave the line")
        assert "two" in terminal.text.split("one ")[1].split(" three")[0]

    def test_what_is_typed_is_read_in_the_encoding_of_the_terminal(
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
    def test_a_signal_leaves_the_terminal_as_it_was(
        self, project: Project, open_app: Open, number: signal.Signals, code: int
    ) -> None:
        terminal = open_app([project.folder])
        terminal.wait_for("Data")
        terminal.process.send_signal(number)
        assert terminal.exit_code() == code
        assert LEAVE_ALTERNATE_SCREEN in terminal.output
        assert terminal.output.rindex(SHOW_CURSOR) > 0

    def test_a_lost_link_ends_the_viewer_and_not_the_run(
        self, project: Project, open_app: Open
    ) -> None:
        run = project.start()
        terminal = open_app(["attach", run.path])
        terminal.wait_for("RUNNING")
        terminal.hang_up()
        terminal.exit_code()
        assert goes_on(run)

    def test_killing_the_viewer_leaves_the_run_alive(
        self, project: Project, open_app: Open
    ) -> None:
        run = project.start()
        terminal = open_app(["attach", run.path])
        terminal.wait_for("RUNNING")
        terminal.process.kill()
        assert goes_on(run)
        again = open_app(["attach"], folder=project.folder)
        again.wait_for("RUNNING")

    def test_q_detaches_and_says_so(self, project: Project, open_app: Open) -> None:
        run = project.start()
        terminal = open_app(["attach", run.path])
        terminal.wait_for("RUNNING")
        terminal.send("q")
        assert terminal.exit_code() == 0
        assert f"{run.name} goes on".encode() in terminal.output
        assert goes_on(run)


class TestKilledEngine:
    def test_a_viewer_says_what_happened(self, project: Project, open_app: Open) -> None:
        run = project.start()
        terminal = open_app(["attach", run.path])
        terminal.wait_for("RUNNING")
        (started,) = [each for each in events_of(run) if isinstance(each, ev.RunStarted)]
        os.kill(started.pid, signal.SIGKILL)
        terminal.wait_for("LOST")


class TestSizes:
    def test_any_size_is_survived(self, project: Project, open_app: Open) -> None:
        run = project.start()
        terminal = open_app(["attach", run.path])
        terminal.wait_for("RUNNING")
        for columns, rows in ((80, 24), (40, 12), (200, 60), (20, 5), (120, 40)):
            terminal.resize(columns, rows)
            terminal.wait(lambda c=columns: max(map(len, terminal.text.splitlines())) == c)  # type: ignore[misc]
        terminal.wait_for("RUNNING")
        assert terminal.process.poll() is None


class TestThinLink:
    def test_watching_a_fast_run_over_ssh_costs_a_few_kilobytes_a_second(
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
