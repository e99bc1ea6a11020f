"""The batches of a run."""

from __future__ import annotations

import numpy as np
import pytest

from mlxft.data.batch_plan import (
    USUAL,
    Batch,
    BatchPlan,
    dealt,
    padded_count,
    padded_width,
    rounding_on,
)


def plan_of(
    lengths: list[int],
    trained: list[int],
    *,
    batch_size: int = 2,
    max_seq_length: int = 2048,
    seed: int = 0,
    packing: bool = False,
) -> BatchPlan:
    return BatchPlan(
        lengths=lengths,
        trained=trained,
        batch_size=batch_size,
        max_seq_length=max_seq_length,
        seed=seed,
        packing=packing,
    )


def make_plan(lengths: list[int], batch_size: int = 4, seed: int = 0) -> BatchPlan:
    return plan_of(lengths, [1] * len(lengths), batch_size=batch_size, seed=seed)


LENGTHS = [int(each) for each in np.random.default_rng(1).integers(20, 400, 1001)]


class TestEpoch:
    def test_every_record_appears_once(self) -> None:
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

    def test_the_order_depends_on_seed_and_epoch(self) -> None:
        assert make_plan(LENGTHS).epoch(1) == make_plan(LENGTHS).epoch(1)
        assert make_plan(LENGTHS).epoch(0) != make_plan(LENGTHS).epoch(1)
        assert make_plan(LENGTHS).epoch(0) != make_plan(LENGTHS, seed=1).epoch(0)

    def test_long_and_short_batches_are_mixed(self) -> None:
        widths = [batch.width for batch in make_plan(LENGTHS).epoch(0)]
        assert widths != sorted(widths)
        assert len(set(widths[:20])) > 3

    def test_records_of_similar_length_are_together(self) -> None:
        assert make_plan(LENGTHS).padding_share < 0.1
        in_file_order = [LENGTHS[at : at + 4] for at in range(0, 1000, 4)]
        padded = sum(4 * max(group) for group in in_file_order)
        assert 1 - sum(map(sum, in_file_order)) / padded > 0.25

    def test_a_smaller_batch_is_not_always_the_longest_records(self) -> None:
        plan = make_plan(list(range(10, 19)))
        assert len({plan.epoch(number)[-1].sequences for number in range(20)}) > 3


class TestSteps:
    def test_steps_count_from_one_across_epochs(self) -> None:
        plan = make_plan(LENGTHS[:10])
        expected = [*plan.epoch(0), *plan.epoch(1), *plan.epoch(2)]
        assert [plan.batch(step) for step in range(1, 10)] == expected

    def test_a_step_is_the_same_after_a_resume(self) -> None:
        plan = make_plan(LENGTHS)
        later = plan.batch(600)
        assert make_plan(LENGTHS).batch(600) == later
        assert plan.batch(3) == make_plan(LENGTHS).batch(3)


class TestUntrainable:
    def test_records_without_a_trained_token_are_skipped_and_counted(self) -> None:
        plan = plan_of([10, 20, 30, 40], [1, 0, 5, 0])
        assert plan.untrainable == 2
        assert plan.steps_per_epoch == 1
        assert sorted(plan.epoch(0)[0].sequences) == [0, 2]

    def test_no_records_give_no_batch(self) -> None:
        plan = plan_of([10], [0])
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

    @pytest.mark.parametrize(("backend", "share"), [("metal", 0.6), ("cuda", 0.5)])
    def test_where_shapes_cost_time_there_are_fewer(self, backend: str, share: float) -> None:
        lengths = range(1, 8193)
        few, usual = (
            {padded_width(n, 8192, rounding) for n in lengths}
            for rounding in (rounding_on(backend), USUAL)
        )
        assert few < usual
        assert len(few) < share * len(usual)

    @pytest.mark.parametrize(("backend", "most"), [("cpu", 8), ("metal", 8), ("cuda", 32)])
    def test_rows_are_padded_by_an_eighth_at_most_or_a_little(
        self, backend: str, most: int
    ) -> None:
        rounding = rounding_on(backend)
        assert all(padded_width(n, 8192, rounding) - n <= max(most, n / 8) for n in range(1, 8193))

    @pytest.mark.parametrize(
        ("backend", "inputs", "expected"),
        [
            ("metal", 380, [48, 96, 144, 192, 240, 288, 336, 380]),
            ("cuda", 380, [190, 380]),
            ("cuda", 1820, [228, 456, 684, 912, 1140, 1368, 1596, 1820]),
        ],
    )
    def test_where_shapes_cost_time_counts_are_parts_of_the_batch(
        self, backend: str, inputs: int, expected: list[int]
    ) -> None:
        rounding = rounding_on(backend)
        counts = [padded_count(count, inputs, rounding) for count in range(1, inputs + 1)]
        assert sorted(set(counts)) == expected
        assert all(found >= count for count, found in enumerate(counts, 1))

    def test_a_plan_has_the_widths_of_its_backend(self) -> None:
        lengths = [20, 37, 66, 130]
        plans = [
            BatchPlan(
                lengths=lengths,
                trained=[1] * 4,
                batch_size=1,
                max_seq_length=512,
                seed=0,
                rounding=rounding_on(backend),
            )
            for backend in ("cpu", "metal", "cuda")
        ]
        widths = [sorted(batch.width for batch in plan.epoch(0)) for plan in plans]
        assert widths == [[25, 41, 73, 137], [25, 41, 73, 145], [33, 65, 97, 161]]

    def test_there_are_few_widths(self) -> None:
        widths = {padded_width(length, 8192) for length in range(1, 8193)}
        assert len(widths) < 120


def packed_plan(lengths: list[int], max_seq_length: int = 512, seed: int = 0) -> BatchPlan:
    trained = [1] * len(lengths)
    return plan_of(lengths, trained, max_seq_length=max_seq_length, seed=seed, packing=True)


class TestPacking:
    def test_every_sequence_appears_once_per_epoch(self) -> None:
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

    def test_batch_size_counts_rows_and_epochs_have_equally_many_steps(self) -> None:
        plan = packed_plan(LENGTHS)
        assert plan.steps_per_epoch == -(-len(plan.rows) // 2)
        epochs = [plan.epoch(number) for number in range(3)]
        assert {len(each) for each in epochs} == {plan.steps_per_epoch}
        assert epochs[0] != epochs[1]
        assert all(len(batch.rows) == 2 for batch in epochs[0][:-1])

    def test_it_depends_on_the_seed_alone(self) -> None:
        assert packed_plan(LENGTHS).epoch(1) == packed_plan(LENGTHS).epoch(1)
        assert packed_plan(LENGTHS).rows != packed_plan(LENGTHS, seed=1).rows

    def test_large_datasets_are_packed_in_windows(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("mlxft.data.batch_plan.PACKED_TOGETHER", 100)
        plan = packed_plan(LENGTHS)
        seen = sorted(index for row in plan.rows for index in row)
        assert seen == list(range(len(LENGTHS)))
        assert plan.padding_share < 0.1

    def test_a_full_row_holds_one_sequence(self) -> None:
        assert sorted(packed_plan([64, 64, 64], max_seq_length=64).rows) == [(0,), (1,), (2,)]

    def test_untrainable_sequences_are_not_packed(self) -> None:
        plan = plan_of([10, 20, 30], [1, 0, 1], max_seq_length=64, packing=True)
        assert [sorted(row) for row in plan.rows] == [[0, 2]]


class TestDealtBatches:
    @pytest.mark.parametrize(
        ("rows", "ranks", "sizes"), [(8, 2, [4, 4]), (7, 3, [3, 2, 2]), (2, 4, [1, 1, 0, 0])]
    )
    def test_each_row_goes_to_one_rank_in_order(
        self, rows: int, ranks: int, sizes: list[int]
    ) -> None:
        batch = Batch(tuple((index,) for index in range(rows)), 33)
        parts = dealt(batch, ranks)
        assert [len(each.rows) for each in parts] == sizes
        assert tuple(row for each in parts for row in each.rows) == batch.rows
        assert {each.width for each in parts} == {33}
