"""The batches of a run."""

from __future__ import annotations

import numpy as np
import pytest

from mlxft.data.batch_plan import BatchPlan, padded_width


def make_plan(lengths: list[int], batch_size: int = 4, seed: int = 0) -> BatchPlan:
    return BatchPlan(lengths, [1] * len(lengths), batch_size, 2048, seed)


LENGTHS = [int(each) for each in np.random.default_rng(1).integers(20, 400, 1001)]


class TestEpoch:
    def test_every_record_comes_once(self) -> None:
        for number in range(3):
            batches = make_plan(LENGTHS).epoch(number)
            seen = [index for batch in batches for index in batch.sequences]
            assert sorted(seen) == list(range(len(LENGTHS)))

    def test_only_the_last_batch_is_smaller(self) -> None:
        sizes = [len(batch.sequences) for batch in make_plan(LENGTHS).epoch(0)]
        assert sizes == [4] * 250 + [1]

    def test_fewer_records_than_a_batch_make_one_batch(self) -> None:
        plan = make_plan([10, 20], batch_size=4)
        assert plan.steps_per_epoch == 1
        assert sorted(plan.batch(7).sequences) == [0, 1]

    def test_the_order_is_the_seeds_and_the_epochs(self) -> None:
        assert make_plan(LENGTHS).epoch(1) == make_plan(LENGTHS).epoch(1)
        assert make_plan(LENGTHS).epoch(0) != make_plan(LENGTHS).epoch(1)
        assert make_plan(LENGTHS).epoch(0) != make_plan(LENGTHS, seed=1).epoch(0)

    def test_long_and_short_batches_are_mixed(self) -> None:
        widths = [batch.width for batch in make_plan(LENGTHS).epoch(0)]
        assert widths != sorted(widths)
        assert len(set(widths[:20])) > 3

    def test_records_of_like_length_are_together(self) -> None:
        assert make_plan(LENGTHS).padding_share < 0.1
        in_file_order = [LENGTHS[at : at + 4] for at in range(0, 1000, 4)]
        padded = sum(4 * max(group) for group in in_file_order)
        assert 1 - sum(map(sum, in_file_order)) / padded > 0.25

    def test_a_smaller_batch_is_not_always_the_longest_records(self) -> None:
        plan = make_plan(list(range(10, 19)))
        assert len({plan.epoch(number)[-1].sequences for number in range(20)}) > 3


class TestSteps:
    def test_steps_count_from_one_and_go_on_through_epochs(self) -> None:
        plan = make_plan(LENGTHS[:10])
        expected = [*plan.epoch(0), *plan.epoch(1), *plan.epoch(2)]
        assert [plan.batch(step) for step in range(1, 10)] == expected

    def test_a_step_is_the_same_from_wherever_a_run_goes_on(self) -> None:
        plan = make_plan(LENGTHS)
        later = plan.batch(600)
        assert make_plan(LENGTHS).batch(600) == later
        assert plan.batch(3) == make_plan(LENGTHS).batch(3)


class TestUntrainable:
    def test_records_without_a_trained_token_are_left_out_and_counted(self) -> None:
        plan = BatchPlan([10, 20, 30, 40], [1, 0, 5, 0], 2, 2048, 0)
        assert plan.untrainable == 2
        assert plan.steps_per_epoch == 1
        assert sorted(plan.epoch(0)[0].sequences) == [0, 2]

    def test_no_record_at_all_is_no_batch(self) -> None:
        plan = BatchPlan([10], [0], 2, 2048, 0)
        assert (plan.steps_per_epoch, plan.epoch(0), plan.padding_share) == (0, (), 0.0)


class TestWidth:
    @pytest.mark.parametrize(
        ("length", "width"),
        [(1, 9), (17, 17), (18, 25), (257, 257), (258, 273), (513, 513), (514, 545)],
    )
    def test_rows_are_a_token_longer_than_a_round_number(self, length: int, width: int) -> None:
        assert padded_width(length, 4096) == width

    def test_rows_are_never_longer_than_the_limit(self) -> None:
        assert padded_width(100, 100) == 100

    def test_there_are_few_widths(self) -> None:
        widths = {padded_width(length, 8192) for length in range(1, 8193)}
        assert len(widths) < 120


def packed_plan(lengths: list[int], max_seq_length: int = 512, seed: int = 0) -> BatchPlan:
    return BatchPlan(lengths, [1] * len(lengths), 2, max_seq_length, seed, packing=True)


class TestPacking:
    def test_every_sequence_comes_once_an_epoch(self) -> None:
        for number in range(3):
            seen = [
                index for batch in packed_plan(LENGTHS).epoch(number) for index in batch.sequences
            ]
            assert sorted(seen) == list(range(len(LENGTHS)))

    def test_no_row_is_longer_than_the_limit(self) -> None:
        for batch in packed_plan(LENGTHS).epoch(0):
            longest = max(sum(LENGTHS[index] for index in row) for row in batch.rows)
            assert longest <= batch.width <= 512

    def test_rows_are_nearly_full(self) -> None:
        plan = packed_plan(LENGTHS)
        assert plan.padding_share < 0.02
        assert len(plan.rows) <= 1.02 * sum(LENGTHS) / 512

    def test_a_batch_counts_rows_and_every_epoch_has_as_many_steps(self) -> None:
        plan = packed_plan(LENGTHS)
        assert plan.steps_per_epoch == -(-len(plan.rows) // 2)
        epochs = [plan.epoch(number) for number in range(3)]
        assert {len(each) for each in epochs} == {plan.steps_per_epoch}
        assert epochs[0] != epochs[1]
        assert all(len(batch.rows) == 2 for batch in epochs[0][:-1])

    def test_it_is_the_seeds_alone(self) -> None:
        assert packed_plan(LENGTHS).epoch(1) == packed_plan(LENGTHS).epoch(1)
        assert packed_plan(LENGTHS).rows != packed_plan(LENGTHS, seed=1).rows

    def test_long_sets_are_packed_in_windows(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("mlxft.data.batch_plan.PACKED_TOGETHER", 100)
        plan = packed_plan(LENGTHS)
        seen = sorted(index for row in plan.rows for index in row)
        assert seen == list(range(len(LENGTHS)))
        assert plan.padding_share < 0.1

    def test_what_fills_a_row_has_it_alone(self) -> None:
        assert sorted(packed_plan([64, 64, 64], max_seq_length=64).rows) == [(0,), (1,), (2,)]

    def test_untrainable_sequences_take_no_room(self) -> None:
        plan = BatchPlan([10, 20, 30], [1, 0, 1], 2, 64, 0, packing=True)
        assert [sorted(row) for row in plan.rows] == [[0, 2]]
