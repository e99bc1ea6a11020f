"""Progress in words, with an estimate that comes from the present stage only."""

from __future__ import annotations

from mlxft.runs.events import ProgressMade
from mlxft_tui.progress import Progress


class TestProgress:
    def test_at_first_there_is_only_the_share(self) -> None:
        assert Progress().describe(ProgressMade(stage="loading", done=1, total=4), 0.0) == (
            "loading 25%"
        )

    def test_the_rest_follows_from_the_rate(self) -> None:
        progress = Progress()
        progress.describe(ProgressMade(stage="tokenizing", done=100, total=300), 10.0)
        later = progress.describe(ProgressMade(stage="tokenizing", done=150, total=300), 20.0)
        assert later == "tokenizing 50% 30 s left"

    def test_another_stage_begins_anew(self) -> None:
        progress = Progress()
        progress.describe(ProgressMade(stage="loading", done=0, total=10), 0.0)
        progress.describe(ProgressMade(stage="loading", done=9, total=10), 9.0)
        assert progress.describe(ProgressMade(stage="saving", done=1, total=10), 9.5) == (
            "saving 10%"
        )

    def test_a_total_that_is_not_known_is_not_made_up(self) -> None:
        assert Progress().describe(ProgressMade(stage="waiting", done=7), 0.0) == "waiting"
