"""Recurrences in chunks, against mlx_lm's own and plain automatic differentiation."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import Any

import mlx.core as mx
import mlx.optimizers as optim
import numpy as np
import pytest
from mlx_lm.models import gated_delta, ssm
from mlx_lm.utils import _get_classes

from mlxft import recipe as recipes
from mlxft.compute.arrays import named_arrays, number
from mlxft.compute.models import adapters
from mlxft.compute.models.loading import LoadedModel
from mlxft.compute.training import operations, packing, recurrences
from mlxft.compute.training.attention import Backend
from mlxft.compute.training.batches import BatchArrays, batch_arrays
from mlxft.compute.training.loss import chunked_loss, plain_loss
from mlxft.compute.training.recurrences import inverse_of_unit_lower
from mlxft.compute.training.recurrent_layers import FUSED, gated_delta_by, ssm_by
from mlxft.compute.training.step import Stepper
from mlxft.memory import estimator
from mlxft.recipe import Recipe
from support.architectures import RECURRENT, VOCABULARY

Update = Callable[..., tuple[mx.array, mx.array]]

BACKENDS: tuple[Backend, ...] = ("cpu", "cuda")
"""Chunk after chunk, and many chunks at once."""


@pytest.fixture(autouse=True)
def _no_packed_rows() -> None:
    """Other tests leave those of their last pass."""
    packing.caches(None, None)


@pytest.fixture(autouse=True)
def _not_packed() -> Iterator[None]:
    packing.forget_records()
    yield
    packing.forget_records()


def delta_arrays(rows: int, tokens: int, *, per_channel: bool = False) -> list[mx.array]:
    """q, k, v, a, b, A_log, dt_bias and a state, with two value heads per key head."""
    mx.random.seed(tokens)
    keys, heads, size, values = 2, 4, 16, 8
    gate = (rows, tokens, heads, size) if per_channel else (rows, tokens, heads)
    q, k = (mx.random.normal((rows, tokens, keys, size)) for _ in range(2))
    q, k = gated_delta.normalize_qk(q, k, inv_scale=size**-0.5, eps=1e-6)
    v, b = mx.random.normal((rows, tokens, heads, values)), mx.random.normal((rows, tokens, heads))
    rate = mx.log(mx.random.uniform(0.01, 16, (heads, 1) if per_channel else (heads,)))
    bias = mx.random.normal((heads, size) if per_channel else (heads,)) - 2
    state = mx.random.normal((rows, heads, values, size))
    return [q, k, v, mx.random.normal(gate), b, rate, bias, state]


def ssm_arrays(rows: int, tokens: int) -> list[mx.array]:
    """x, A_log, B, C, D, dt, dt_bias and a state, with two heads per group."""
    mx.random.seed(tokens)
    groups, heads, size, values = 2, 4, 16, 8
    x, dt = mx.random.normal((rows, tokens, heads, values)), mx.random.normal((rows, tokens, heads))
    b, c = (mx.random.normal((rows, tokens, groups, size)) for _ in range(2))
    rate = mx.log(mx.random.uniform(0.01, 16, (heads,)))
    state = mx.random.normal((rows, heads, values, size))
    return [x, rate, b, c, mx.random.normal((heads,)), dt, mx.random.normal((heads,)), state]


def found(update: Update, arrays: list[mx.array], mask: mx.array | None = None) -> list[Any]:
    """Reads, last state, and the gradients by all arrays of a loss that depends on both."""
    kept = mx.array(1.0) if mask is None else mask[..., None, None]

    def loss(*arrays: mx.array) -> mx.array:
        reads, state = update(*arrays, mask=mask)
        return (reads * kept).sin().sum() + state.sin().sum()

    reads, state = update(*arrays, mask=mask)
    gradients = mx.grad(loss, argnums=tuple(range(len(arrays))))(*arrays)
    return [np.array(each) for each in (reads * kept, state, *gradients)]


def assert_near(ours: list[Any], theirs: list[Any], relative: float = 1e-5) -> None:
    for a, b in zip(ours, theirs, strict=True):
        assert np.abs(a - b).max() <= relative * np.abs(b).max()


def padding(rows: int, tokens: int) -> mx.array:
    """True for real tokens: each row ends earlier than the one before."""
    return mx.arange(tokens)[None] < (tokens - 3 * mx.arange(rows))[:, None]


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(("rows", "tokens"), [(1, 1), (2, 64), (4, 37), (2, 150), (1, 450)])
class TestGatedDeltaRule:
    """Lengths shorter than a chunk, equal to it, and no multiple of it."""

    @pytest.mark.parametrize("per_channel", [False, True], ids=["per head", "per channel"])
    def test_it_and_its_gradients_equal_mlx_lms(
        self, rows: int, tokens: int, backend: Backend, per_channel: bool
    ) -> None:
        arrays = delta_arrays(rows, tokens, per_channel=per_channel)
        theirs = found(gated_delta.gated_delta_update, arrays)
        assert_near(found(gated_delta_by(backend), arrays), theirs)

    def test_padding_leaves_the_state_as_it_is(
        self, rows: int, tokens: int, backend: Backend
    ) -> None:
        arrays, mask = delta_arrays(rows, tokens), padding(rows, tokens)
        theirs = found(gated_delta.gated_delta_update, arrays, mask)
        assert_near(found(gated_delta_by(backend), arrays, mask), theirs)

    def test_an_ssm_and_its_gradients_equal_mlx_lms(
        self, rows: int, tokens: int, backend: Backend
    ) -> None:
        arrays = ssm_arrays(rows, tokens)
        theirs = found(ssm.ssm_update, arrays)
        assert_near(found(ssm_by(backend), arrays), theirs)


class TestGates:
    @pytest.mark.parametrize("per_channel", [False, True], ids=["per head", "per channel"])
    @pytest.mark.parametrize("rate", [1e-6, 200.0])
    def test_weak_and_strong_ones_lose_no_digits(self, rate: float, per_channel: bool) -> None:
        arrays = delta_arrays(2, 100, per_channel=per_channel)
        arrays[5] = mx.full(arrays[5].shape, np.log(rate))
        theirs = found(gated_delta.gated_delta_update, arrays)
        assert_near(found(gated_delta_by("cpu"), arrays), theirs)

    @pytest.mark.parametrize(
        "options", [{"lower_bound": -5.0}, {"allow_neg_eigval": True}], ids=["bounded", "doubled"]
    )
    def test_variants_of_mlx_lm(self, options: dict[str, Any]) -> None:
        arrays = delta_arrays(2, 40)

        def with_options(update: Update) -> Update:
            return lambda *arrays, mask: update(*arrays, mask=mask, **options)

        theirs = found(with_options(gated_delta.gated_delta_update), arrays)
        assert_near(found(with_options(gated_delta_by("cpu")), arrays), theirs)


class TestInverse:
    def test_repeated_keys_are_no_problem(self) -> None:
        """Equal keys fill the matrix with ones, whose powers have huge entries that cancel."""
        lower = np.tril(np.ones((64, 64), np.float32), -1)
        inverse = np.array(inverse_of_unit_lower(mx.array(lower)))
        assert np.array_equal(inverse @ (np.eye(64, dtype=np.float32) + lower), np.eye(64))


class TestPackedRows:
    RECORDS = mx.array([[1] * 30 + [2] * 2 + [3] * 68 + [4] * 40, [1] * 64 + [2] * 70 + [0] * 6])

    @pytest.mark.parametrize("backend", BACKENDS)
    @pytest.mark.parametrize("kind", ["per head", "per channel", "ssm"])
    def test_the_state_is_reset_where_a_record_begins(self, kind: str, backend: Backend) -> None:
        tokens = self.RECORDS.shape[1]
        if kind == "ssm":
            arrays, by_row, update = ssm_arrays(2, tokens), (0, 2, 3, 5), ssm_by(backend)
        else:
            arrays = delta_arrays(2, tokens, per_channel=kind == "per channel")
            by_row, update = (0, 1, 2, 3, 4), gated_delta_by(backend)
        arrays = arrays[:-1]

        def packed(*arrays: mx.array) -> mx.array:
            return update(*arrays)[0].sin().sum()

        def apart(*arrays: mx.array) -> mx.array:
            total = mx.array(0.0)
            for row, records in enumerate(np.array(self.RECORDS)):
                ends = [0, *(np.flatnonzero(np.diff(records)) + 1).tolist(), tokens]
                for start, stop in pairwise(ends):
                    parts = [
                        each[row : row + 1, start:stop] if at in by_row else each
                        for at, each in enumerate(arrays)
                    ]
                    total = total + update(*parts)[0].sin().sum()
            return total

        numbers = tuple(range(len(arrays)))
        theirs = mx.value_and_grad(apart, argnums=numbers)(*arrays)
        packing.caches(_NoLayers(), self.RECORDS)
        ours = mx.value_and_grad(packed, argnums=numbers)(*arrays)
        flat = [[np.array(each) for each in (value, *grads)] for value, grads in (ours, theirs)]
        assert_near(*flat)


class _NoLayers:
    layers = ()


class TestModels:
    @pytest.mark.parametrize("rows", [1, 2, 4])
    @pytest.mark.parametrize("family", RECURRENT)
    def test_losses_and_gradients_equal_those_of_mlx_lms_recurrence(
        self, family: str, rows: int
    ) -> None:
        model = _adapted_model(family)
        tokens = np.random.default_rng(rows).integers(0, VOCABULARY, (rows, 78), np.int32)
        trained = np.array(padding(rows, 78))
        batch = batch_arrays(np.where(trained, tokens, 0).astype(np.int32), trained)

        def loss_and_gradient() -> tuple[float, dict[str, mx.array]]:
            def loss(weights: Any) -> mx.array:
                model.update(weights)
                return plain_loss(model, batch)[0]

            value, gradient = mx.value_and_grad(loss)(model.trainable_parameters())
            return number(value), named_arrays(gradient)

        theirs, their_gradients = loss_and_gradient()
        with operations.replaced():
            ours, our_gradients = loss_and_gradient()
        assert ours == pytest.approx(theirs, rel=1e-6)
        assert_near(
            [np.array(each) for each in our_gradients.values()],
            [np.array(each) for each in their_gradients.values()],
            relative=1e-4,
        )


def _adapted_model(family: str) -> Any:
    """A random model with an adapter that already changes it."""
    config = RECURRENT[family]
    model_class, arguments = _get_classes(config)
    mx.random.seed(7)
    model = model_class(arguments.from_dict(config))
    recipe = recipes.apply_settings(Recipe(), ["num_layers=-1", "rank=4"])
    adapters.attach(LoadedModel(model, {}, "", "", 0), recipe)
    model.apply(lambda array: array + 0.05 * mx.random.normal(array.shape, array.dtype))
    mx.eval(model.parameters())
    return model


class TestPackedSteps:
    LENGTHS = ((30, 50), (64, 10))

    @pytest.mark.parametrize("family", ["qwen3_5", "kimi_linear", "mamba2"])
    def test_loss_and_gradient_are_those_of_the_records_in_rows_of_their_own(
        self, family: str
    ) -> None:
        chance = np.random.default_rng(0)
        rows = [
            [chance.integers(0, VOCABULARY, length, np.int32) for length in lengths]
            for lengths in self.LENGTHS
        ]
        alone = _stepper(family, grad_checkpoint=False)
        results = [
            alone.add_gradient(1, batch_arrays(each[None], (np.arange(len(each)) > 0)[None]))
            for row in rows
            for each in row
        ]
        loss = sum(each.loss * each.tokens for each in results) / sum(e.tokens for e in results)
        total = alone.accumulated.total
        squares = sum(number(each.square().sum()) for each in total.values())
        norm = np.sqrt(squares) / alone.accumulated.weight
        for grad_checkpoint in (False, True):
            packed = _stepper(family, grad_checkpoint).add_gradient(1, _packed(rows))
            assert packed.loss == pytest.approx(loss, rel=1e-6)
            assert packed.gradient_norm == pytest.approx(norm, rel=1e-4)


def _packed(rows: list[list[Any]]) -> BatchArrays:
    """Two rows of 80 tokens, the second padded."""
    tokens, segments = np.zeros((2, 80), np.int32), np.zeros((2, 80), np.int32)
    trained = np.zeros((2, 80), np.bool_)
    for at, row in enumerate(rows):
        start = 0
        for record, each in enumerate(row, 1):
            stop = start + len(each)
            tokens[at, start:stop], segments[at, start:stop] = each, record
            trained[at, start + 1 : stop] = True
            start = stop
    return batch_arrays(tokens, trained, segments)


def _stepper(family: str, grad_checkpoint: bool) -> Stepper:
    return Stepper(
        _adapted_model(family),
        optim.Adam(1e-3),
        seed=0,
        grad_checkpoint=grad_checkpoint,
        loss=chunked_loss,
        by_tokens=True,
    )


class TestMemory:
    def test_chunks_and_spans_are_the_estimators(self) -> None:
        assert recurrences.CHUNK == estimator.CHUNK
        assert recurrences.SPAN_BYTES == estimator.SPAN_BYTES

    def test_only_the_states_between_chunks_grow_with_the_length(self) -> None:
        peaks = []
        for tokens in (512, 1024):
            arrays = [each.astype(mx.float32) for each in delta_arrays(1, tokens)]
            mx.eval(arrays)
            mx.clear_cache()
            mx.reset_peak_memory()
            found(gated_delta_by("cpu"), arrays)
            peaks.append(mx.get_peak_memory())
        token_bytes = sum(each.nbytes for each in arrays[:5]) / 1024
        state_bytes = arrays[7].nbytes / recurrences.CHUNK
        # Inputs, reads and their gradients exist up to four times.
        assert (peaks[1] - peaks[0]) / 512 < 4 * token_bytes + 2 * state_bytes


class TestMetal:
    """Its choice, forced on this machine's CPU, whose own form of the kernels is token by token."""

    @pytest.fixture
    def arrays(self) -> list[mx.array]:
        mx.random.seed(0)
        q, k = (mx.random.normal((1, 20, 16, 128)) for _ in range(2))
        q, k = gated_delta.normalize_qk(q, k, inv_scale=128**-0.5, eps=1e-6)
        v, a, b = (mx.random.normal((1, 20, 16, size)) for size in (128, 1, 1))
        state = mx.random.normal((1, 16, 128, 128))
        return [q, k, v, a[..., 0], b[..., 0], mx.zeros(16), mx.zeros(16), state]

    def test_kernels_are_called_for_few_tokens_at_a_time(
        self, arrays: list[mx.array], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        kernels, lengths = mx.fast.gated_delta_update, []

        def counted(q: mx.array, *others: mx.array) -> Any:
            lengths.append(q.shape[1])
            return kernels(q, *others)

        monkeypatch.setattr(mx.fast, "gated_delta_update", counted)
        fused = FUSED["metal"]
        assert fused is not None
        per_token = arrays[7].nbytes
        monkeypatch.setitem(FUSED, "metal", _allowing(fused, 8 * per_token))
        ours = gated_delta_by("metal")(*arrays)
        theirs = gated_delta.gated_delta_update(*arrays)
        assert lengths == [8, 8, 4]
        assert_near([np.array(each) for each in ours], [np.array(each) for each in theirs])

    def test_other_heads_sizes_and_packed_rows_are_computed_in_chunks(
        self, arrays: list[mx.array], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.delattr(mx.fast, "gated_delta_update")
        gated_delta_by("metal")(*delta_arrays(1, 9))
        packing.caches(_NoLayers(), mx.ones((1, 20), mx.int32))
        gated_delta_by("metal")(*arrays)


def _allowing(fused: Any, states: int) -> Any:
    return type(fused)(size=fused.size, heads=fused.heads, states=states, source=fused.source)
