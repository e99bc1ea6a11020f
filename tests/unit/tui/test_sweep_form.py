"""The form of a sweep."""

from __future__ import annotations

from mlxft_tui.sweep.form import SweepForm

RATES = "1e-5 to 1e-3 log 5"


def test_the_number_of_values_is_there_with_a_grid_only() -> None:
    form = SweepForm(
        name="s", axes={"learning_rate": RATES, "seed": "1, 2", "iters": "10 to 20, 3"}
    )
    drawn = form.stepped(1)
    assert drawn.axes == {"learning_rate": "1e-5 to 1e-3 log", "seed": "1, 2", "iters": "10 to 20"}
    drawn = drawn.with_text("iters", "10 to 30").without("seed")
    again = drawn.stepped(1).stepped(1)
    assert (again.method, again.axes) == ("grid", {"learning_rate": RATES, "iters": "10 to 30"})
