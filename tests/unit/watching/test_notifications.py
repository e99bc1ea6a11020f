"""When the user is notified of a run, and how."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest

from mlxft.advice.types import Advice
from mlxft.errors import MlxftError
from mlxft.recipe import Recipe
from mlxft.runs import events as ev
from mlxft.runs.directory import RunDirectory
from mlxft.runs.followed import FollowedRun
from mlxft.runs.view import RunView, State, fold
from mlxft.storage.paths import notifications_file
from mlxft.watching.notifications import Notifications, deliver, load, mac_command
from mlxft.watching.occasions import Occasion, Occasions
from mlxft_tui.cli.main import main
from support.journal import ended

OCCASION = Occasion(
    kind="failed", run="r-1", folder="/runs/r-1", message="Out of memory.", step=3, iters=9
)
FAILED = ev.RunFailed(seq=9, time=90.0, message="Disk\x1b]0;full\nfree it.", step=3, log="l")


def followed(state: State, *events: ev.AnyEvent, name: str = "r-1") -> FollowedRun:
    steps = [
        ev.StepFinished(
            time=float(step), step=step, loss=2.0, tokens=1, seconds=1.0, learning_rate=1e-4
        )
        for step in (1, 2, 3)
    ]
    view = fold(RunView(), [*steps, *events])
    return FollowedRun(RunDirectory(Path("/runs") / name), view, state, Recipe())


def kinds(found: list[Occasion]) -> list[str]:
    return [each.kind for each in found]


class TestOccasions:
    def test_the_end_of_a_run_is_new_once(self) -> None:
        occasions = Occasions()
        assert occasions.news(followed("running"), None, 4.0) == []
        (found,) = occasions.news(followed("failed", FAILED), None, 5.0)
        assert (found.kind, found.step, found.title) == ("failed", 3, "r-1 has failed")
        assert occasions.news(followed("failed", FAILED), None, 6.0) == []

    def test_the_end_of_a_run_that_was_never_seen_training_is_no_news(self) -> None:
        assert Occasions().news(followed("failed", FAILED), None, 5.0) == []
        found = Occasions(has_been_live=True).news(followed("lost"), None, 5.0)
        assert kinds(found) == ["lost"]

    def test_the_end_of_a_sweeps_round_is_no_news(self) -> None:
        stopped = ended(3, "stopped")
        assert isinstance(stopped, ev.RunFinished)
        round_end = msgspec.structs.replace(stopped, ends_round=True)
        found = [
            Occasions(has_been_live=True).news(followed("stopped", each), None, 5.0)
            for each in (stopped, round_end)
        ]
        assert list(map(kinds, found)) == [["stopped"], []]

    def test_a_stalled_run_is_new_again_only_after_it_has_moved(self) -> None:
        occasions = Occasions()
        stalled, moving = followed("running"), followed("running")
        assert kinds(occasions.news(stalled, None, 3.0 + 20)) == ["stalled"]
        assert occasions.news(stalled, None, 60.0) == []
        assert occasions.news(moving, None, 4.0) == []
        assert kinds(occasions.news(stalled, None, 90.0)) == ["stalled"]

    def test_a_forgotten_pause_and_urgent_advice_are_news(self) -> None:
        pause = ev.RunPaused(time=100.0, step=3)
        occasions = Occasions()
        assert occasions.news(followed("paused", pause), None, 200.0) == []
        assert kinds(occasions.news(followed("paused", pause), None, 800.0)) == ["paused"]
        advice = Advice("diverged", "Stop.", "loss 9")
        assert kinds(Occasions().news(followed("running"), advice, 4.0)) == ["diverged"]

    def test_no_text_of_a_run_holds_a_control_character(self) -> None:
        hostile = followed("failed", FAILED, name="a\x1b]9;b\x07\nc")
        (found,) = Occasions(has_been_live=True).news(hostile, None, 5.0)
        text = found.title + found.message + found.folder
        assert text.isprintable(), text


class TestSettings:
    def test_without_a_file_nobody_is_notified(self, tmp_path: Path) -> None:
        found = load(tmp_path / "notifications.toml")
        assert found == Notifications()
        assert not found.wants_process

    @pytest.mark.parametrize(
        ("text", "says"),
        [
            ("comand = ['a']", "comand is not a setting; did you mean command?"),
            ("command = 'a b'", "command must be a list"),
            ("terminal = 'loud'", "terminal must be of none, bell, osc9, osc777"),
            ("events = ['end']", "events must be of finished, stopped"),
            ("seconds = 0", "seconds is 0; it must be above 0"),
            ("= 3", "can't be read"),
        ],
    )
    def test_what_is_wrong_with_it_is_one_sentence(
        self, tmp_path: Path, text: str, says: str
    ) -> None:
        file = tmp_path / "notifications.toml"
        file.write_text(text)
        with pytest.raises(MlxftError) as refused:
            load(file)
        assert says in str(refused.value)


class TestCommand:
    def test_gets_the_event_as_json_and_in_variables(self, tmp_path: Path) -> None:
        script = f'cat > {tmp_path}/json; echo "$MLXFT_EVENT|$MLXFT_TITLE" > {tmp_path}/variables'
        assert deliver(OCCASION, Notifications(command=("/bin/sh", "-c", script))) == []
        found = json.loads((tmp_path / "json").read_text())
        assert (found["kind"], found["run"], found["message"]) == (
            "failed",
            "r-1",
            "Out of memory.",
        )
        assert (tmp_path / "variables").read_text() == "failed|r-1 has failed\n"

    def test_is_run_only_for_the_events_that_are_wanted(self, tmp_path: Path) -> None:
        wanted = Notifications(command=("/bin/touch", str(tmp_path / "file")), events=("finished",))
        deliver(OCCASION, wanted)
        assert not (tmp_path / "file").exists()
        deliver(replace(OCCASION, kind="finished"), wanted)
        assert (tmp_path / "file").exists()

    @pytest.mark.parametrize(
        ("command", "says"),
        [
            (("/no/such/program",), "can't be run"),
            (("/bin/sh", "-c", "echo no network; exit 3"), "(exit status 3: no network)"),
            (("/bin/sh", "-c", "sleep 600 & wait"), "was ended after 0.3 s"),
        ],
    )
    def test_that_fails_is_one_sentence(self, command: tuple[str, ...], says: str) -> None:
        (problem,) = deliver(OCCASION, Notifications(command=command, seconds=0.3))
        assert says in problem

    def test_that_says_much_or_leaves_something_running_has_not_failed(self) -> None:
        left = ("/bin/sh", "-c", "sleep 600 & exit 0")
        assert deliver(OCCASION, Notifications(command=left, seconds=5.0)) == []
        much = ("/bin/sh", "-c", "yes | head -c 3000000; exit 3")
        (problem,) = deliver(OCCASION, Notifications(command=much, seconds=60))
        assert "exit status 3: y" in problem
        assert len(problem) < 1000

    def test_can_be_tried_out(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        assert main(["notify"]) == 1
        assert "no notification is wanted" in capsys.readouterr().err
        notifications_file().parent.mkdir()
        script = f"echo $MLXFT_EVENT > {tmp_path}/event"
        notifications_file().write_text(
            f"command = ['/bin/sh', '-c', '{script}']\nterminal = 'bell'"
        )
        assert main(["notify", "--event", "stalled"]) == 0
        assert (tmp_path / "event").read_text() == "stalled\n"
        # What is piped is no terminal.
        assert "\a" not in capsys.readouterr().out

    def test_a_mac_gets_texts_as_arguments_and_not_as_code(self) -> None:
        command = mac_command(OCCASION)
        assert command[-2:] == ("r-1 has failed", "Out of memory.")
        assert not any("Out of memory" in each for each in command[:-2])
