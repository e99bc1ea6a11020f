#!/usr/bin/env bash
# The last validation loss that mlx-lm reports is not that of the adapter it saves.
# This project: validates after the last update.
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
from mlx_lm.tuner.callbacks import TrainingCallback
from mlx_lm.tuner.trainer import TrainingArgs, evaluate, train

VOCABULARY = 16


class Table(nn.Module):
    """The logits of each next token, looked up by the last one."""

    def __init__(self):
        super().__init__()
        self.table = mx.zeros((VOCABULARY, VOCABULARY))
        self.layers = [nn.Identity()]

    def __call__(self, tokens):
        return self.table[tokens]


def iterate(loop=False, **_):
    """The same batch again and again."""
    while True:
        yield mx.full((1, 9), 3), mx.array([[0, 8]])
        if not loop:
            return


class Reports(TrainingCallback):
    """Keeps what is reported."""

    def __init__(self):
        self.validations = []

    def on_val_loss_report(self, report):
        self.validations.append((report["iteration"], report["val_loss"]))


model, reports = Table(), Reports()
args = TrainingArgs(
    batch_size=1,
    iters=2,
    val_batches=-1,
    steps_per_report=100,
    steps_per_eval=100,
    steps_per_save=100,
    adapter_file="adapters.safetensors",
)
train(model, optim.SGD(1.0), [], [0], args, iterate_batches=iterate, training_callback=reports)
saved = Table()
saved.load_weights("adapters.safetensors")
true = evaluate(saved, [0], 1, -1, iterate_batches=iterate)
reported = reports.validations[-1][1]
print("mlx-lm 0.32.2, two iterations: last validation reported, and that of the weights saved")
print("expected: equal")
print(f"seen:     {reported:.3f} reported for iteration 2, {true:.3f} of what was saved")
sys.exit(not reported > true + 0.1)
EOF
