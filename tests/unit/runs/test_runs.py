"""The run directory, its journal, and the view that is folded from it."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

import pytest

from mlxft.errors import RunError, StorageError
from mlxft.recipe import Recipe
from mlxft.runs import directory as directories
from mlxft.runs import events as ev
from mlxft.runs import journal
from mlxft.runs.journal import JournalReader, JournalWriter
from mlxft.runs.view import (
    FORWARD_SHARE,
    LOG_EVENTS,
    RunView,
    fold,
    seconds_late,
    seconds_left,
    state,
    tokens_per_second,
)
from mlxft.telemetry.sample import Sample


def started(start_step: int = 0, **recipe: int) -> ev.RunStarted:
    return ev.RunStarted(
        run="r-1", pid=1, host="mac", recipe=recipe, iters=100, start_step=start_step
    )


def validated(step: int, seconds: float = 10.0) -> ev.ValidationFinished:
    return ev.ValidationFinished(step=step, loss=2.0, tokens=1, seconds=seconds, best=False)


def prepared(valid_records: int) -> ev.DataPrepared:
    return ev.DataPrepared(
        train_records=9,
        valid_records=valid_records,
        tokens=90,
        trained_tokens=9,
        longest=9,
        truncated=0,
        untrainable=0,
        steps_per_epoch=1,
        padding_share=0.0,
    )


def sampled(step: int, seconds: float = 3.0) -> ev.SampleAnswered:
    return ev.SampleAnswered(step=step, prompt="p", text="t", tokens=1, seconds=seconds)


def trained(step: int, loss: float = 2.0, seconds: float = 0.5) -> ev.StepFinished:
    return ev.StepFinished(step=step, loss=loss, tokens=50, seconds=seconds, learning_rate=1e-4)


def finished() -> ev.RunFinished:
    return ev.RunFinished(
        reason="completed",
        step=100,
        first_loss=2.0,
        final_loss=1.0,
        best_validation_loss=None,
        best_validation_step=None,
        tokens_per_second=1.0,
        trained_tokens=1,
        peak_memory=1,
        seconds=1.0,
        adapter_path="adapters/r-1",
    )


def unwritable(_: int) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


class TestDirectory:
    def test_a_new_run_is_private_and_holds_its_recipe(self, tmp_path: Path) -> None:
        run = directories.create(tmp_path / "adapters", Recipe(model="m"), "smol/lm lora")
        assert run.name == "smol-lm-lora-1"
        assert stat.S_IMODE(run.path.stat().st_mode) == 0o700
        assert run.recipe().model == "m"

    def test_another_recipe_keeps_the_adapter_path_for_mlx_lm(self, tmp_path: Path) -> None:
        run = directories.create(tmp_path, Recipe(model="m"), "run")
        run.write_recipe(Recipe(model="other"))
        assert run.recipe().model == "other"
        assert f"adapter_path: {run.path}" in run.recipe_file.read_text()

    def test_a_recipe_that_is_not_written_whole_leaves_the_old_one(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        run = directories.create(tmp_path, Recipe(model="m"), "run")
        monkeypatch.setattr(os, "fsync", unwritable)
        with pytest.raises(StorageError, match="recipe can't be written"):
            run.write_recipe(Recipe(model="other"))
        assert run.recipe().model == "m"

    def test_a_taken_name_gets_the_next_number(self, tmp_path: Path) -> None:
        names = [directories.create(tmp_path, Recipe(), "run").name for _ in range(3)]
        assert names == ["run-1", "run-2", "run-3"]

    def test_an_unwritable_folder_is_one_sentence(self, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("")
        with pytest.raises(StorageError, match="choose a folder you can write"):
            directories.create(tmp_path / "file", Recipe(), "run")

    def test_the_lock_tells_whether_an_engine_is_at_work(self, tmp_path: Path) -> None:
        run = directories.create(tmp_path, Recipe(), "run")
        assert not run.is_live()
        with run.locked():
            assert run.is_live()
            with pytest.raises(RunError, match="attach to it"), run.locked():
                pass
        assert not run.is_live()

    def test_the_socket_path_is_short_enough_for_macos(self, tmp_path: Path) -> None:
        run = directories.create(tmp_path, Recipe(), "a" * 100)
        assert len(os.fsencode(run.socket_file)) < 104

    def test_a_failed_write_leaves_the_old_file_whole(self, tmp_path: Path) -> None:
        path = tmp_path / "file"
        directories.write_atomically(path, b"old")
        with pytest.raises(TypeError):
            directories.write_atomically(path, None)  # type: ignore[arg-type]
        assert path.read_bytes() == b"old"


class TestJournal:
    def test_events_are_numbered_timed_and_read_back(self, tmp_path: Path) -> None:
        writer = JournalWriter(tmp_path / "events.jsonl", clock=lambda: 7.0)
        writer.append(started())
        writer.append(trained(1))
        first, second = JournalReader(tmp_path / "events.jsonl").read()
        assert (first.seq, second.seq, second.time) == (1, 2, 7.0)
        assert isinstance(second, ev.StepFinished)

    def test_a_reader_gets_each_event_once(self, tmp_path: Path) -> None:
        writer = JournalWriter(tmp_path / "events.jsonl")
        reader = JournalReader(tmp_path / "events.jsonl")
        assert reader.read() == []
        writer.append(trained(1))
        assert len(reader.read()) == 1
        assert reader.read() == []

    def test_a_partial_line_waits_for_its_rest(self, tmp_path: Path) -> None:
        path = tmp_path / "events.jsonl"
        line = ev.encode(trained(1)) + b"\n"
        path.write_bytes(line + line[:20])
        reader = JournalReader(path)
        assert len(reader.read()) == 1
        with path.open("ab") as file:
            file.write(line[20:])
        assert len(reader.read()) == 1

    def test_a_journal_that_was_cut_is_read_anew(self, tmp_path: Path) -> None:
        path = tmp_path / "events.jsonl"
        path.write_bytes(b"".join(ev.encode(trained(step)) + b"\n" for step in range(1, 9)))
        reader = JournalReader(path)
        assert len(reader.read()) == 8
        path.write_bytes(ev.encode(trained(1)) + b"\n")
        assert [each.step for each in reader.read() if isinstance(each, ev.StepFinished)] == [1]

    def test_another_journal_in_its_place_is_read_from_its_beginning(self, tmp_path: Path) -> None:
        path = tmp_path / "events.jsonl"
        writer = JournalWriter(path, clock=lambda: 1.0)
        writer.append(started())
        reader = JournalReader(path)
        reader.read()
        assert not reader.restarted()
        path.unlink()
        writer = JournalWriter(path, clock=lambda: 2.0)
        for event in (started(), trained(1)):
            writer.append(event)
        assert reader.restarted()
        assert [each.time for each in reader.read()] == [2.0, 2.0]

    def test_a_torn_line_of_a_killed_engine_spoils_nothing(self, tmp_path: Path) -> None:
        path = tmp_path / "events.jsonl"
        JournalWriter(path).append(trained(1))
        with path.open("ab") as file:
            file.write(b'{"event":"step_fin')
        JournalWriter(path).append(trained(2))
        events = JournalReader(path).read()
        assert [each.step for each in events if isinstance(each, ev.StepFinished)] == [1, 2]
        assert [each.seq for each in events] == [1, 2]

    def test_a_full_disk_still_has_room_for_the_last_word(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        path, write = tmp_path / "events.jsonl", os.write

        def full(descriptor: int, line: bytes) -> int:
            if (tmp_path / journal.RESERVE_NAME).exists():
                return write(descriptor, line[:10])
            return write(descriptor, line)

        writer = JournalWriter(path)
        writer.append(started())
        monkeypatch.setattr(os, "write", full)
        with pytest.raises(StorageError, match="free disk space"):
            writer.append(trained(1))
        writer.append(ev.RunFailed(message="The disk is full.", step=0, log="l"))
        assert [type(each) for each in JournalReader(path).read()] == [ev.RunStarted, ev.RunFailed]

    def test_a_closed_journal_leaves_nothing_beside_it(self, tmp_path: Path) -> None:
        writer = JournalWriter(tmp_path / "events.jsonl")
        writer.append(started())
        writer.close()
        assert [each.name for each in tmp_path.iterdir()] == ["events.jsonl"]

    def test_a_long_journal_comes_in_batches_that_lose_nothing(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(journal, "BATCH_BYTES", 500)
        path = tmp_path / "events.jsonl"
        lines = [ev.encode(trained(step)) for step in range(1, 51)]
        path.write_bytes(b"\n".join(lines) + b"\n" + lines[0][:20])
        reader = JournalReader(path)
        batches = list(reader.batches())
        assert len(batches) > 5
        assert [each.step for batch in batches for each in batch] == list(range(1, 51))  # type: ignore[union-attr]
        assert reader.read() == []

    @pytest.mark.parametrize(
        "line",
        [
            b'{"event":"warned","message":"x","z":' + b"[" * 5000 + b"]" * 5000 + b"}",
            ev.encode(trained(1)).replace(b'"step":1', b'"step":' + b"9" * 400),
            ev.encode(trained(1)).replace(b'"tokens":50', b'"tokens":' + b"9" * 400),
            ev.encode(trained(1)).replace(b'"time":0.0', b'"time":1e300'),
            ev.encode(trained(1)).replace(b'"seconds":0.5', b'"seconds":1e308'),
        ],
    )
    def test_a_line_that_no_figure_could_be_taken_from_is_passed_over(
        self, tmp_path: Path, line: bytes
    ) -> None:
        path = tmp_path / "events.jsonl"
        path.write_bytes(line + b"\n" + ev.encode(trained(2)) + b"\n")
        (event,) = JournalReader(path).read()
        assert fold(RunView(), [started(), event]).step == 2

    def test_a_failure_of_an_older_journal_has_no_cause(self) -> None:
        line = b'{"event":"run_failed","seq":9,"time":1.0,"message":"m","step":3,"log":"l"}'
        failed = ev.decode(line)
        assert isinstance(failed, ev.RunFailed)
        assert failed.cause is None

    def test_an_event_of_a_newer_version_is_passed_over(self, tmp_path: Path) -> None:
        path = tmp_path / "events.jsonl"
        path.write_bytes(b'{"event":"from_the_future","seq":1}\n' + ev.encode(trained(1)) + b"\n")
        assert len(JournalReader(path).read()) == 1


class TestView:
    def test_folding_at_once_or_one_by_one_gives_the_same(self) -> None:
        events = [started(), *(trained(step) for step in range(1, 30)), finished()]
        one_by_one = RunView()
        for event in events:
            one_by_one = fold(one_by_one, [event])
        assert one_by_one == fold(RunView(), events)

    @pytest.mark.parametrize(
        ("events", "live", "expected"),
        [
            ([], True, "starting"),
            ([], False, "lost"),
            ([started()], True, "starting"),
            ([started(), trained(1)], True, "running"),
            ([started(), trained(1)], False, "lost"),
            ([started(), trained(1), ev.RunPaused(step=1)], True, "paused"),
            ([started(), trained(1), finished()], True, "finished"),
            ([started(), ev.RunFailed(message="m", step=0, log="l")], False, "failed"),
        ],
    )
    def test_the_state_is_what_the_journal_and_the_lock_say(
        self, events: list[ev.AnyEvent], live: bool, expected: str
    ) -> None:
        assert state(fold(RunView(), events), live) == expected

    def test_a_resume_shows_each_step_once(self) -> None:
        first = [started(), *(trained(step, loss=9.0) for step in range(1, 8))]
        second = [started(start_step=5), trained(6, loss=1.0), trained(7, loss=1.0)]
        view = fold(RunView(), [*first, *second])
        assert list(view.steps.step) == [1, 2, 3, 4, 5, 6, 7]
        assert list(view.steps.loss)[-2:] == [1.0, 1.0]

    def test_an_ending_of_before_sessions_were_summed_up_is_of_the_last_one(self) -> None:
        ending = finished()
        view = fold(RunView(), [started(), trained(1), trained(2), started(2), trained(3), ending])
        assert isinstance(view.ending, ev.RunFinished)
        assert view.ending.since_step == 2
        assert view.log[-1] == view.ending

    def test_the_rest_is_estimated_from_this_sessions_steps_only(self) -> None:
        slow = [started(), *(trained(step, seconds=100.0) for step in range(1, 51))]
        fast = [started(start_step=50), trained(51, seconds=1.0), trained(52, seconds=1.0)]
        view = fold(RunView(), [*slow, *fast])
        assert seconds_left(view) == pytest.approx(48.0)
        assert tokens_per_second(view) == pytest.approx(50.0)

    def test_the_rest_counts_the_other_work_that_is_planned(self) -> None:
        recipe = {"steps_per_eval": 30, "sample_every": 40, "save_every": 25}
        steps = [trained(step, seconds=1.0) for step in range(1, 41)]
        saved = ev.CheckpointSaved(step=25, path="p", seconds=5.0)
        done = [validated(30), sampled(40), saved]
        view = fold(RunView(), [started(**recipe), *steps, *done])
        # 60 steps; validations after 60, 90 and 100; samples after 80 and 100; saves after 50, 75
        # and 100.
        assert seconds_left(view) == pytest.approx(60.0 + 3 * 10.0 + 2 * 3.0 + 3 * 5.0)

    def test_what_was_asked_for_by_hand_is_no_measure_of_what_is_planned(self) -> None:
        steps = [trained(step, seconds=1.0) for step in range(1, 34)]
        by_hand = [validated(12), validated(30), validated(33)]
        view = fold(RunView(), [started(steps_per_eval=30), *steps, *by_hand])
        assert seconds_left(view) == pytest.approx(67.0 + 3 * 10.0)

    def test_a_validation_at_work_counts_by_what_is_left_of_it(self) -> None:
        steps = [trained(step, seconds=1.0) for step in range(1, 61)]
        at_work = ev.ProgressMade(stage="validating", done=3, total=4)
        view = fold(RunView(), [started(steps_per_eval=30), *steps, validated(30), at_work])
        assert seconds_left(view) == pytest.approx(40.0 + 2 * 10.0 + 2.5)

    def test_the_last_validation_is_part_of_the_rest(self) -> None:
        steps = [trained(step, seconds=1.0) for step in range(1, 101)]
        at_work = ev.ProgressMade(stage="validating", done=1, total=4)
        view = fold(RunView(), [started(steps_per_eval=50), *steps, validated(50), at_work])
        assert seconds_left(view) == pytest.approx(7.5)

    @pytest.mark.parametrize(("val_batches", "batches"), [(-1, 5), (3, 3), (0, 0)])
    def test_before_the_first_validation_a_step_tells_about_how_long_it_takes(
        self, val_batches: int, batches: int
    ) -> None:
        recipe = {"steps_per_eval": 50, "batch_size": 2, "val_batches": val_batches}
        steps = [trained(step, seconds=1.0) for step in range(1, 11)]
        view = fold(RunView(), [started(**recipe), prepared(valid_records=9), *steps])
        rest = 90.0 + 2 * batches * FORWARD_SHARE
        assert seconds_left(view) == pytest.approx(rest)

    def test_a_step_of_a_suspended_engine_is_no_measure_of_the_rest(self) -> None:
        steps = [trained(step, seconds=900.0 if step == 45 else 1.0) for step in range(1, 51)]
        assert seconds_left(fold(RunView(), [started(), *steps])) == pytest.approx(50.0)

    def test_the_rate_is_the_one_set_by_hand_until_a_step_has_another(self) -> None:
        changed = ev.LearningRateChanged(step=1, learning_rate=5e-5)
        view = fold(RunView(), [started(), trained(1), changed])
        assert view.learning_rate == 5e-5
        assert fold(view, [trained(2)]).learning_rate == 1e-4

    def test_a_resume_forgets_the_answers_and_the_best_that_it_trains_again(self) -> None:
        said = [
            ev.SampleAnswered(step=step, prompt="p", text=str(step), tokens=1, seconds=1.0)
            for step in (0, 10)
        ]
        best = ev.ValidationFinished(step=10, loss=0.1, tokens=1, seconds=1.0, best=True)
        first = fold(RunView(), [started(), *said, best])
        view = fold(first, [started(start_step=5)])
        assert [each.step for each in first.samples] == [0, 10]
        assert [each.step for each in view.samples] == [0]
        assert view.best_validation is None

    def test_the_log_holds_the_latest_events_only(self) -> None:
        warnings = [ev.Warned(message=str(number)) for number in range(LOG_EVENTS + 5)]
        log = fold(RunView(), [started(), *warnings]).log
        assert len(log) == LOG_EVENTS
        assert log[-1] == warnings[-1]

    def test_a_step_is_late_once_it_takes_far_longer_than_others(self) -> None:
        view = fold(RunView(), [started(), *(trained(step) for step in range(1, 30))])
        assert seconds_late(view, 19.0) is None
        assert seconds_late(view, 40.0) == 40.0
        slow = fold(RunView(), [started(), trained(1, seconds=60.0)])
        assert seconds_late(slow, 300.0) is None
        validating = fold(view, [ev.ProgressMade(stage="validating", done=1)])
        assert seconds_late(validating, 40.0) is None

    @pytest.mark.parametrize(
        "end",
        [
            ev.RunContinued(step=29, paused_seconds=500.0, time=500.0),
            ev.ValidationFinished(
                step=29, loss=1.0, tokens=1, seconds=500.0, best=False, time=500.0
            ),
            ev.SampleAnswered(step=29, prompt="p", text="t", tokens=1, seconds=500.0, time=500.0),
        ],
    )
    def test_what_a_step_had_to_wait_for_is_not_counted_as_late(self, end: ev.AnyEvent) -> None:
        view = fold(RunView(), [started(), *(trained(step) for step in range(1, 30)), end])
        assert seconds_late(view, 510.0) is None
        assert seconds_late(view, 540.0) == 40.0

    def test_the_first_look_at_the_machine_is_this_sessions(self) -> None:
        looks = [ev.MachineSampled(sample=Sample(time=0, swap_used=each)) for each in (1, 2, 3)]
        view = fold(RunView(), [started(), *looks[:2]])
        assert view.first_machine == looks[0]
        again = fold(view, [started(start_step=0), looks[2]])
        assert again.first_machine == looks[2]

    def test_sleep_is_held_off_as_long_as_the_run_is_live(self) -> None:
        view = fold(RunView(), [started(), ev.SleepPrevented(by="caffeinate")])
        assert view.keeps_awake
        assert not fold(view, [finished()]).keeps_awake

    def test_the_best_validation_is_the_lowest(self) -> None:
        validations = [
            ev.ValidationFinished(step=step, loss=loss, tokens=1, seconds=1.0, best=True)
            for step, loss in ((10, 2.0), (20, 1.0), (30, 1.5))
        ]
        best = fold(RunView(), [started(), *validations]).best_validation
        assert best is not None
        assert best.step == 20
