"""`mlxft-tui evaluate` with an engine that answers at once."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from mlxft.comparison.evaluations import read_evaluations
from mlxft.conversation.scores import Case, evaluation, scored
from mlxft.engine.protocol import Evaluate, Evaluated
from mlxft_tui.cli import evaluate
from mlxft_tui.cli.main import main
from support.journal import RUN_RECIPE, ended, trained_run, write_run


def test_both_compared_runs_keep_their_own_scores(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    events = [*trained_run(RUN_RECIPE, 2), ended(2)]
    first, second = (write_run(tmp_path / "adapters", RUN_RECIPE, events) for _ in range(2))

    def answer(
        _session: object,
        _opening: object,
        command: Evaluate,
        take: Callable[[Evaluated], None],
        **_: bool,
    ) -> int:
        titles = [title for title, _ in command.sides]
        losses = list(zip(titles, (2.0, 1.0), strict=True))
        replies = (scored("no", "yes"), scored("yes", "yes"))
        cases = [Case("valid 1", "Sure?", "yes", replies)]
        found = evaluation("valid", records=1, tokens=9, losses=losses, cases=cases)
        take(Evaluated(id=1, evaluation=found))
        return 0

    monkeypatch.setattr(evaluate, "refuse_unusable", lambda *_: None)
    monkeypatch.setattr(evaluate, "run_on_service", answer)
    names = (first.name, "--compare", second.name, "--split", "valid")
    assert main(["evaluate", *names, "--dir", str(tmp_path)]) == 0
    for run, loss, gain, other in ((first, 1.0, 1.0, second), (second, 2.0, -1.0, first)):
        (kept,) = read_evaluations(run)
        assert (kept.loss, kept.against) == (loss, other.name)
        assert kept.exact_match_gain is not None
        assert (kept.exact_match_gain.mean, kept.exact_match_gain.low) == (gain, gain)
