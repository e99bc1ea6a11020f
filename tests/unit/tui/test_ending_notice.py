"""The notice of a run's end, of which nothing is cut on a narrow screen."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from mlxft_tui.text.cells import plain_text, width_of
from mlxft_tui.train.notice import ending_rows
from support.journal import finished, preparation, training, view_of
from support.train_screen import FAILURE, run_of

WIDTH = 78
KEYS = "{"
"""Begins what a key's name takes the place of."""

DEEP = "/projects/" + "requests-of-a-lamp/" * 5 + "adapters/demo-1"


@pytest.mark.parametrize(
    "changes",
    [
        {"since_step": 123400, "seconds": 93000.0},
        {"since_step": 500, "ends_round": True},
        {"reason": "stopped", "since_step": 500},
        {"adapter_path": DEEP},
    ],
)
def test_losses_and_the_adapter_are_shown_however_long_the_rest_is(changes: dict[str, Any]) -> None:
    ending = msgspec.structs.replace(finished(), **changes)
    run = run_of(view_of([*preparation(), *training(1000), ending]), "finished")
    rows = [row for row in ending_rows(run, width=WIDTH) if KEYS not in plain_text(row)]
    assert all(width_of(row) <= WIDTH for row in rows)
    text = " ".join(plain_text(row) for row in rows)
    assert "loss 2.512 → 0.309" in text
    assert "best val 0.421 @700" in text
    assert plain_text(rows[-1]).endswith(ending.adapter_path[-30:])


def test_of_a_log_too_deep_for_the_line_the_end_is_shown() -> None:
    failure = msgspec.structs.replace(FAILURE, log=f"{DEEP}/engine.log")
    run = run_of(view_of([*preparation(), *training(330), failure]), "failed")
    (log,) = (row for row in ending_rows(run, width=WIDTH) if plain_text(row).startswith("log "))
    assert width_of(log) <= WIDTH
    assert plain_text(log).endswith("/adapters/demo-1/engine.log")
