"""Benchmark runs: which count, and what of a busy machine is repeated."""

from __future__ import annotations

from mlxft.conversation.benchmark import SpeedRun, undisturbed


def run(speed: float, others: float = 0.0) -> SpeedRun:
    return SpeedRun(speed, speed, 1, others)


class TestUndisturbed:
    def test_runs_beside_busy_processes_dont_count(self) -> None:
        runs = [run(10.0), run(4.0, 0.5), run(11.0, 0.05)]
        assert [each.prompt_speed for each in undisturbed(runs)] == [10.0, 11.0]

    def test_on_a_machine_that_is_always_busy_all_count(self) -> None:
        runs = [run(4.0, 0.5), run(5.0, 0.4)]
        assert undisturbed(runs) == runs
        assert undisturbed(runs)[0].disturbed
