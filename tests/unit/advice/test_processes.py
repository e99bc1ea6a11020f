"""Advice on a recipe of several processes."""

from mlxft.advice.before_run import before_run
from mlxft.recipe import Recipe


def test_a_process_without_a_record_of_a_step() -> None:
    (found,) = before_run(Recipe(hosts=4, batch_size=3, learning_rate=1e-4), None)
    assert (found.topic, found.change) == ("speed", ("batch_size", 4))
    assert "1 of 4 processes" in found.message
    assert before_run(Recipe(hosts=4, batch_size=4, learning_rate=1e-4), None) == []
