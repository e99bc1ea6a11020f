#!/usr/bin/env bash
# With mx.checkpoint, what the gradients of a block's weights need is held until all blocks have
# been recomputed: MLX recomputes the earlier blocks before it computes these gradients.
# This project: a block's inputs get their gradient only once its weights have theirs, on top of
# recomputing it only once the gradient of its outputs is there.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check \
    "mlx[cpu]==0.32.4"
cd "$folder"
venv/bin/python - <<'EOF'
import sys

import mlx.core as mx

ROWS, HIDDEN, WIDE = 2048, 16, 1024
inside, outside = mx.random.normal((HIDDEN, WIDE)), mx.random.normal((WIDE, HIDDEN))
x = mx.random.normal((ROWS, HIDDEN))
mx.eval(inside, outside, x)


@mx.checkpoint
def block(scale, x):
    """Trains `scale`, whose gradient needs two arrays of (ROWS, WIDE)."""
    return x + (mx.tanh(x @ inside) * scale) @ outside


def loss(scales):
    y = x
    for scale in scales:
        y = block(scale, y)
    return y.sum()


def held(blocks):
    """How many wide arrays a step with so many blocks takes at most, one operation at a time."""
    scales = [mx.ones((WIDE,)) for _ in range(blocks)]
    mx.eval(scales)
    mx.synchronize()
    mx.clear_cache()
    before = mx.get_active_memory()
    mx.reset_peak_memory()
    mx.eval(mx.grad(loss)(scales))
    mx.synchronize()
    return (mx.get_peak_memory() - before) / (4 * ROWS * WIDE)


with mx.stream(mx.cpu):
    mx.set_memory_limit(1)
    counts = [held(blocks) for blocks in (1, 2, 4, 8)]
print("mlx 0.32.4, the gradient of 1, 2, 4 and 8 checkpointed blocks with one trained vector each")
print("expected: the wide arrays of one or two blocks, however many blocks there are")
print("seen:     " + ", ".join(f"{each:.1f}" for each in counts) + " wide arrays at once")
sys.exit(not (counts[0] < 3 and counts[3] > 15))
EOF
