"""Progress in words, with the time left in the current stage."""

from __future__ import annotations

from mlxft.runs.events import ProgressMade
from mlxft_tui.text.progress import Progress


class TestProgress:
    def test_a_first_report_has_only_the_share(self) -> None:
        assert Progress().describe(ProgressMade(stage="loading", done=1, total=4), 0.0) == (
            "loading 25%"
        )

    def test_the_time_left_follows_from_the_rate(self) -> None:
        progress = Progress()
        progress.describe(ProgressMade(stage="tokenizing", done=100, total=300), 10.0)
        later = progress.describe(ProgressMade(stage="tokenizing", done=150, total=300), 20.0)
        assert later == "tokenizing 50% 30 s left"

    def test_another_stage_starts_a_new_estimate(self) -> None:
        progress = Progress()
        progress.describe(ProgressMade(stage="loading", done=0, total=10), 0.0)
        progress.describe(ProgressMade(stage="loading", done=9, total=10), 9.0)
        assert progress.describe(ProgressMade(stage="saving", done=1, total=10), 9.5) == (
            "saving 10%"
        )

    def test_an_unknown_total_gives_no_share(self) -> None:
        assert Progress().describe(ProgressMade(stage="waiting", done=7), 0.0) == "waiting"

    def test_a_repeated_stage_starts_a_new_estimate(self) -> None:
        progress = Progress()
        for done in range(1, 5):
            progress.describe(validating(done), float(done))
        assert progress.describe(validating(1), 900.0) == "validating 10%"
        assert progress.describe(validating(2), 902.0) == "validating 20% 16 s left"

    def test_after_an_end_the_same_stage_starts_a_new_estimate(self) -> None:
        progress = Progress()
        progress.describe(validating(1), 0.0)
        progress.end()
        assert progress.describe(validating(3), 900.0) == "validating 30%"

    def test_a_pause_does_not_affect_the_rate(self) -> None:
        progress = Progress()
        seen = [0.0, 1.0, 2.0, 3.0, 903.0, 904.0, 905.0]
        for done, now in enumerate(seen):
            text = progress.describe(validating(done), now)
        assert text == "validating 60% 7 s left"

    def test_repeated_slow_moves_affect_the_rate(self) -> None:
        progress = Progress()
        for done, now in enumerate([0.0, 1.0, 2.0, 22.0, 23.0, 43.0]):
            text = progress.describe(validating(done), now)
        assert text == "validating 50% 43 s left"

    def test_a_repeated_report_changes_nothing(self) -> None:
        progress = Progress()
        progress.describe(validating(1), 0.0)
        progress.describe(validating(2), 2.0)
        assert progress.describe(validating(2), 60.0) == "validating 20% 16 s left"


def validating(done: int) -> ProgressMade:
    return ProgressMade(stage="validating", done=done, total=10)
