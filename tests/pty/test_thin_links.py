"""Watching a run over slow, stalled and dropped links, and on limited terminals."""

from __future__ import annotations

import random
import re
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from mlxft.runs import events as ev
from mlxft.runs.directory import RunDirectory, create
from mlxft.runs.journal import JournalWriter
from support.journal import LIVE_RECIPE, LiveEngine
from support.project import Project, events_of, eventually
from support.terminal import Terminal

Open = Callable[..., Terminal]

SSH = {"SSH_CONNECTION": "10.0.0.1 1 10.0.0.2 22"}
STALL_SECONDS = 5.0


class Scripted:
    """A locked run whose journal the test writes."""

    def __init__(self, folder: Path) -> None:
        self.directory = create(folder / "adapters", LIVE_RECIPE, "scripted")
        self.engine = LiveEngine()
        self._journal = JournalWriter(self.directory.journal_file)
        for event in self.engine.start():
            self.append(event)
        self.append(self.engine.machine(busy=True))
        self.train(120)

    def append(self, event: ev.AnyEvent) -> None:
        self._journal.append(event)

    def train(self, steps: int) -> None:
        for _ in range(steps):
            for event in self.engine.next_step():
                self.append(event)


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Scripted]:
    scripted = Scripted(tmp_path)
    with scripted.directory.locked():
        yield scripted


def steps_of(run: RunDirectory) -> int:
    return sum(isinstance(each, ev.StepFinished) for each in events_of(run))


class TestPainting:
    def test_many_partial_paints_equal_a_full_repaint(self, run: Scripted, open_app: Open) -> None:
        terminal = open_app(["attach", run.directory.path])
        terminal.wait_for("120/4000")
        for _ in range(6):
            run.train(5)
            terminal.wait_for(f"{run.engine.step}/4000")
            terminal.send(random.Random(run.engine.step).choice("yx.+"))
        run.append(ev.RunPaused(step=run.engine.step))
        terminal.wait_for("PAUSED")
        run.append(ev.Warned(message="Final warning."))
        terminal.wait_for("Final warning.")
        terminal.wait_quiet()
        before, painted = terminal.text, len(terminal.output)
        terminal.send("\x0c")
        terminal.wait(lambda: len(terminal.output) > painted + 2000)
        terminal.wait_quiet()
        assert terminal.text == before


class TestSsh:
    def test_a_paused_run_sends_almost_nothing(self, run: Scripted, open_app: Open) -> None:
        run.append(ev.RunPaused(step=120))
        terminal = open_app(["attach", run.directory.path], environment=SSH)
        terminal.wait_for("PAUSED")
        terminal.wait_quiet()
        before = len(terminal.output)
        for _ in range(5):
            run.append(run.engine.machine(busy=False))
        run.append(ev.Warned(message="Final warning."))
        terminal.wait_for("Final warning.")
        assert len(terminal.output) - before < 1500

    def test_no_mouse_disables_mouse_reports(self, run: Scripted, open_app: Open) -> None:
        terminal = open_app(["attach", "--no-mouse", run.directory.path], environment=SSH)
        terminal.wait_for("RUNNING")
        assert b"\x1b[?1003h" not in terminal.output


class TestStalledLink:
    def test_a_stalled_reader_catches_up(self, project: Project, open_app: Open) -> None:
        run = project.start("steps_per_report=1")
        terminal = open_app(["attach", run.path])
        terminal.wait_for("RUNNING")
        with terminal.stalled():
            before = steps_of(run)
            start = events_of(run)[-1].time
            # The journal's clock measures the stall.
            eventually(lambda: events_of(run)[-1].time > start + STALL_SECONDS)
            assert steps_of(run) > before + 5
            reached = steps_of(run)
        terminal.wait(lambda: shown_step(terminal) >= reached)
        assert terminal.process.poll() is None
        terminal.send("q")
        assert terminal.exit_code() == 0
        assert run.is_live()

    def test_a_hang_up_of_a_stalled_link_ends_the_viewer_but_not_the_run(
        self, project: Project, open_app: Open
    ) -> None:
        run = project.start()
        terminal = open_app(["attach", run.path])
        terminal.wait_for("RUNNING")
        with terminal.stalled():
            before = steps_of(run)
            eventually(lambda: steps_of(run) > before + 20)
        terminal.hang_up()
        terminal.exit_code()
        before = steps_of(run)
        eventually(lambda: steps_of(run) > before + 5)


def shown_step(terminal: Terminal) -> int:
    found = re.search(r"(\d+)/1000000", terminal.text)
    return int(found[1]) if found else 0


class TestSizes:
    def test_the_screen_survives_two_hundred_random_resizes(
        self, run: Scripted, open_app: Open
    ) -> None:
        terminal = open_app(["attach", run.directory.path])
        terminal.wait_for("RUNNING")
        chance = random.Random(11)
        for _ in range(200):
            terminal.resize(chance.randint(1, 220), chance.randint(1, 70))
            if chance.random() < 0.2:
                run.train(1)
        terminal.resize(120, 40)
        run.train(1)
        terminal.wait_for(f"{run.engine.step}/4000")
        terminal.wait_for("─ machine")
        assert terminal.process.poll() is None

    def test_the_terminals_size_overrides_the_environment(
        self, run: Scripted, open_app: Open
    ) -> None:
        terminal = open_app(
            ["attach", run.directory.path], environment={"COLUMNS": "80", "LINES": "24"}
        )
        terminal.wait_for("─ machine")

    @pytest.mark.parametrize(("columns", "rows"), [(40, 12), (60, 20), (79, 40)])
    def test_a_small_terminal_shows_run_bar_and_log(
        self, run: Scripted, open_app: Open, columns: int, rows: int
    ) -> None:
        terminal = open_app(["attach", run.directory.path], columns, rows)
        terminal.wait_for("RUNNING")
        terminal.wait_for("step 120")
        assert max(map(len, terminal.text.splitlines())) <= columns


class TestLimitedTerminals:
    def test_no_color_is_honoured(self, run: Scripted, open_app: Open) -> None:
        terminal = open_app(["attach", run.directory.path], environment={"NO_COLOR": "1"})
        terminal.wait_for("RUNNING")
        colours = re.findall(rb"[34]8;2;(\d+);(\d+);(\d+)", terminal.output)
        assert all(red == green == blue for red, green, blue in colours)

    def test_a_sixteen_colour_console_gets_no_more_and_no_braille(
        self, run: Scripted, open_app: Open
    ) -> None:
        environment = {"TERM": "linux", "COLORTERM": ""}
        terminal = open_app(["attach", run.directory.path], environment=environment)
        terminal.wait_for("RUNNING")
        terminal.wait_for("*")
        assert not re.search(rb"[34]8;[25];", terminal.output)
        assert not re.search("[\u2800-\u28ff]", terminal.text)

    def test_a_terminal_without_utf_8_gets_ascii(self, run: Scripted, open_app: Open) -> None:
        environment = {"PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"}
        terminal = open_app(["attach", run.directory.path], environment=environment)
        terminal.wait_for("o RUNNING")
        terminal.wait_for("- loss")
        assert terminal.output.isascii()
        assert "\\u" not in terminal.text


class TestExit:
    def test_sigterm_restores_the_terminal_and_keeps_the_run(
        self, run: Scripted, open_app: Open
    ) -> None:
        terminal = open_app(["attach", run.directory.path], environment=SSH)
        terminal.wait_for("RUNNING")
        events = len(events_of(run.directory))
        terminal.process.send_signal(signal.SIGTERM)
        assert terminal.exit_code() == 143
        assert b"\x1b[?1049l" in terminal.output
        assert len(events_of(run.directory)) == events
