"""CUDA kernels for what takes MLX many small ones: passing states on, and triangular inverses.

With mlx 0.32.4 a step of Qwen3.5 0.8B made 18,000 launches on an H200, which the processor took
twice as long to make as the GPU to run.
"""

from __future__ import annotations

from functools import cache
from typing import Any, Final

import mlx.core as mx

COLUMNS: Final = 16
"""Value channels that a block of threads keeps, each thread those of two key channels."""

MOST_CHANNELS: Final = 512
"""Key channels of which a block of threads shares 16 values each in 48 KiB, as on every GPU."""

INVERTED: Final = 64
"""Rows of the matrices that are inverted, those of whole chunks: another size would be one more
kernel to compile. They fit twice into a block's 48 KiB of shared memory."""

_TRIED: Final = (128, 128)
"""Channels of the states with which the kernels are tried: Qwen3.5's, which are compiled then."""

_PASS: Final = """
    __shared__ __align__(16) float held[CHANNELS][COLUMNS];
    constexpr int HALF = CHANNELS / 2;
    constexpr int TILES = VALUES / COLUMNS;
    const long head = blockIdx.x / TILES;
    const int column = (blockIdx.x % TILES) * COLUMNS;
    const int chunks = factors_shape[1];
    const int channels[2] = {(int)threadIdx.x, (int)threadIdx.x + HALF};
    float own[2][COLUMNS];
    for (int r = 0; r < 2; ++r) {
        const long start = (head * CHANNELS + channels[r]) * VALUES + column;
        for (int i = 0; i < COLUMNS; ++i) {
            own[r][i] = state[start + i];
        }
    }
    for (int step = 0; step < chunks; ++step) {
        const long chunk = head * chunks + (BACKWARD ? chunks - 1 - step : step);
        float next[2][COLUMNS];
        for (int r = 0; r < 2; ++r) {
            const long start = (chunk * CHANNELS + channels[r]) * VALUES + column;
            for (int i = 0; i < COLUMNS; ++i) {
                states[start + i] = own[r][i];
                next[r][i] = added[start + i];
            }
        }
        if (MATRIX) {
            for (int r = 0; r < 2; ++r) {
                for (int i = 0; i < COLUMNS; ++i) {
                    held[channels[r]][i] = own[r][i];
                }
            }
            __syncthreads();
            const float* factor = factors + chunk * CHANNELS * CHANNELS;
            #pragma unroll 4
            for (int from = 0; from < CHANNELS; ++from) {
                const float first = factor[from * CHANNELS + channels[0]];
                const float second = factor[from * CHANNELS + channels[1]];
                const float4* row = reinterpret_cast<const float4*>(held[from]);
                #pragma unroll
                for (int i = 0; i < COLUMNS; i += 4) {
                    const float4 four = row[i / 4];
                    next[0][i] += first * four.x;
                    next[0][i + 1] += first * four.y;
                    next[0][i + 2] += first * four.z;
                    next[0][i + 3] += first * four.w;
                    next[1][i] += second * four.x;
                    next[1][i + 1] += second * four.y;
                    next[1][i + 2] += second * four.z;
                    next[1][i + 3] += second * four.w;
                }
            }
            __syncthreads();
        } else {
            for (int r = 0; r < 2; ++r) {
                const float factor = factors[chunk * CHANNELS + channels[r]];
                for (int i = 0; i < COLUMNS; ++i) {
                    next[r][i] += factor * own[r][i];
                }
            }
        }
        for (int r = 0; r < 2; ++r) {
            for (int i = 0; i < COLUMNS; ++i) {
                own[r][i] = next[r][i];
            }
        }
    }
    for (int r = 0; r < 2; ++r) {
        const long start = (head * CHANNELS + channels[r]) * VALUES + column;
        for (int i = 0; i < COLUMNS; ++i) {
            last[start + i] = own[r][i];
        }
    }
"""

_INVERSE: Final = """
    __shared__ float lower[SIZE][SIZE];
    __shared__ float found[SIZE][SIZE];
    const int column = threadIdx.x;
    const long start = (long)blockIdx.x * SIZE * SIZE + column;
    for (int row = 0; row < SIZE; ++row) {
        lower[row][column] = matrix[start + row * SIZE];
    }
    __syncthreads();
    for (int row = 0; row < SIZE; ++row) {
        float value = row == column ? 1.0f : 0.0f;
        for (int before = 0; before < row; ++before) {
            value -= lower[row][before] * found[before][column];
        }
        found[row][column] = value;
        inverse[start + row * SIZE] = value;
    }
"""


def passes(factors: mx.array, added: mx.array) -> bool:
    """Whether `passed_through` takes factors and what is added of these shapes."""
    channels, values = added.shape[-2:]
    fits = channels % 2 == 0 and channels <= MOST_CHANNELS and values % COLUMNS == 0
    return fits and factors.shape[-1] in (1, channels) and serve()


def passed_through(
    factors: mx.array, added: mx.array, state: mx.array, *, backward: bool
) -> tuple[mx.array, mx.array]:
    """The states before each chunk and the one after the last, as of `recurrences`, in float32."""
    chunks, channels, values = added.shape[3:]
    heads = state.size // (channels * values)
    states, last = _passing()(
        inputs=[
            factors.reshape(heads, chunks, channels, -1),
            added.reshape(heads, chunks, channels, values),
            state.reshape(heads, channels, values),
        ],
        template=[
            ("CHANNELS", channels),
            ("VALUES", values),
            ("COLUMNS", COLUMNS),
            ("MATRIX", factors.shape[-1] > 1),
            ("BACKWARD", backward),
        ],
        grid=(heads * (values // COLUMNS) * (channels // 2), 1, 1),
        threadgroup=(channels // 2, 1, 1),
        output_shapes=[(heads, chunks, channels, values), (heads, channels, values)],
        output_dtypes=[mx.float32, mx.float32],
    )
    return states.reshape(added.shape), last.reshape(state.shape)


def inverts(matrix: mx.array) -> bool:
    """Whether `inverse_of_unit_lower` takes a matrix of this shape."""
    return bool(matrix.shape[-1] == INVERTED) and serve()


def inverse_of_unit_lower(matrix: mx.array) -> mx.array:
    """The inverses of the identity plus each matrix's part below the diagonal, row by row."""
    size = matrix.shape[-1]
    (inverse,) = _inverting()(
        inputs=[matrix.reshape(-1, size, size)],
        template=[("SIZE", size)],
        grid=(matrix.size // size, 1, 1),
        threadgroup=(size, 1, 1),
        output_shapes=[(matrix.size // size**2, size, size)],
        output_dtypes=[mx.float32],
    )
    found: mx.array = inverse.reshape(matrix.shape)
    return found


@cache
def serve() -> bool:
    """Whether this process's GPU makes and runs them; tried once, so not while a step is traced."""
    if mx.default_device() == mx.Device(mx.cpu) or mx.metal.is_available():
        return False
    one = mx.ones((1, 1, 1, 1, *_TRIED))
    factors = mx.eye(_TRIED[0]).reshape(1, 1, 1, 1, *_TRIED)
    try:
        states, last = passed_through(factors, one, one[:, :, :, 0], backward=False)
        inverse = inverse_of_unit_lower(mx.zeros((1, INVERTED, INVERTED)))
        right = mx.array_equal(states, one) & mx.array_equal(last, 2 * one[:, :, :, 0])
        return bool((right & mx.array_equal(inverse[0], mx.eye(INVERTED))).item())
    except (RuntimeError, ValueError):
        return False


@cache
def _passing() -> Any:
    return mx.fast.cuda_kernel(
        name="mlxft_passed_through",
        input_names=["factors", "added", "state"],
        output_names=["states", "last"],
        source=_PASS,
    )


@cache
def _inverting() -> Any:
    return mx.fast.cuda_kernel(
        name="mlxft_inverse_of_unit_lower",
        input_names=["matrix"],
        output_names=["inverse"],
        source=_INVERSE,
    )
