#!/usr/bin/env bash
# mlx-lm's loss counts one padding token of every row that is shorter than its batch.
# This project: masks by position, so that padding is never a target.
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
from mlx_lm.tuner.trainer import default_loss

VOCABULARY = 11


def even(tokens):
    """A model that finds every token equally likely."""
    return mx.zeros((*tokens.shape, VOCABULARY))


# Rows of 8 and 5 tokens, the second one padded with zeros to 16, as iterate_batches pads.
batch = mx.zeros((2, 16), mx.int32)
batch[0, :8] = 7
batch[1, :5] = 7
_, counted = default_loss(even, batch, mx.array([[0, 8], [0, 5]]))
targets = (8 - 1) + (5 - 1)
print("mlx-lm 0.32.2, default_loss of rows of 8 and 5 tokens in a batch that is 16 wide")
print(f"expected: {targets} targets, every token but each row's first")
print(f"seen:     {counted.item()}, one of padding in each row")
sys.exit(counted.item() != targets + 2)
EOF
