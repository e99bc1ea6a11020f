#!/usr/bin/env bash
# mlx-lm divides accumulated gradients by their number, so a token of a short batch counts more.
# This project: weighs each batch by its trained tokens; mlx-lm's way can be asked for.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check \
    "mlx[cpu]==0.32.4" mlx-lm==0.32.2
cd "$folder"
venv/bin/python - <<'EOF'
import sys

import mlx.core as mx
import mlx.nn as nn
import mlx.optimizers as optim
from mlx_lm.tuner.trainer import TrainingArgs, train

VOCABULARY = 16


class Table(nn.Module):
    """The logits of each next token, looked up by the last one."""

    def __init__(self):
        super().__init__()
        self.table = mx.zeros((VOCABULARY, VOCABULARY))
        self.layers = [nn.Identity()]

    def __call__(self, tokens):
        return self.table[tokens]


def batch(token, targets, width=64):
    """One row that repeats a token."""
    row = mx.zeros((1, width), mx.int32)
    row[0, :targets + 1] = token
    return row, mx.array([[1, targets]])


def updated(batches, steps):
    """The table after one update of size 1 by the gradients of all these batches."""
    model = Table()

    def iterate(**_):
        while True:
            yield from batches

    args = TrainingArgs(
        batch_size=1,
        iters=len(batches),
        grad_accumulation_steps=steps,
        steps_per_report=100,
        steps_per_save=100,
        adapter_file="adapters.safetensors",
    )
    train(model, optim.SGD(1.0), [], args=args, iterate_batches=iterate)
    return model.table


short, long = batch(3, 5), batch(4, 35)
apart = updated([short, long], 2)
rows = mx.concatenate([short[0], long[0]]), mx.concatenate([short[1], long[1]])
together = updated([rows], 1)
print("mlx-lm 0.32.2, rows of 5 and of 35 targets: as one batch, and as two accumulated ones")
print("expected: the same update, since accumulation stands for a larger batch")
of_short = [abs(each[3, 3].item()) for each in (together, apart)]
of_long = [abs(each[4, 4].item()) for each in (together, apart)]
print(f"seen:     largest change by the short row {of_short[0]:.3f} and {of_short[1]:.3f},")
print(f"          by the long row {of_long[0]:.3f} and {of_long[1]:.3f}")
sys.exit(not (of_short[1] > 3 * of_short[0] and of_long[1] < 0.7 * of_long[0]))
EOF
