#!/usr/bin/env bash
# mlx-lm drops gradients that are left over when iters is no multiple of the accumulation.
# This project: applies what is left at the end of a run.
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

ITERS, ACCUMULATION = 6, 4


class Table(nn.Module):
    """The logits of each next token, looked up by the last one."""

    def __init__(self):
        super().__init__()
        self.table = mx.zeros((ITERS + 1, ITERS + 1))
        self.layers = [nn.Identity()]

    def __call__(self, tokens):
        return self.table[tokens]


def iterate(**_):
    """Batches of one row; each repeats a token of its own."""
    while True:
        for token in range(1, ITERS + 1):
            yield mx.full((1, 9), token), mx.array([[0, 8]])


model, optimizer = Table(), optim.SGD(1.0)
args = TrainingArgs(
    batch_size=1,
    iters=ITERS,
    grad_accumulation_steps=ACCUMULATION,
    steps_per_report=100,
    steps_per_save=100,
    adapter_file="adapters.safetensors",
)
train(model, optimizer, [], args=args, iterate_batches=iterate)
learned = [token for token in range(1, ITERS + 1) if model.table[token, token].item() != 0]
print(f"mlx-lm 0.32.2, {ITERS} iterations, each with a token of its own, accumulation {ACCUMULATION}")
print("expected: an update for the last two iterations, or a warning")
print(f"seen:     {optimizer.step.item()} update; tokens learned: {learned}")
sys.exit((optimizer.step.item(), learned) != (1, [1, 2, 3, 4]))
EOF
