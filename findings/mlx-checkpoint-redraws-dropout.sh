#!/usr/bin/env bash
# mx.checkpoint draws another dropout mask when it recomputes, so gradients don't fit the loss.
# This project: draws each layer's mask from a key that is fixed for the step.
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
import mlx.nn as nn


def gradients(rate):
    """The gradient of sum(dropout(weights)), without and with a checkpoint, under one seed."""
    dropout = nn.Dropout(rate)
    for block in (dropout, mx.checkpoint(dropout)):
        mx.random.seed(1)
        yield mx.value_and_grad(lambda weights: block(weights).sum())(mx.ones(1000))


print("mlx 0.32.4, loss and gradient of sum(dropout(ones)), without and with mx.checkpoint")
print("expected: equal losses and equal gradients, at every dropout rate")
agree = {}
for rate in (0.0, 0.5):
    (loss, plain), (same_loss, recomputed) = gradients(rate)
    differing = (plain != recomputed).sum().item()
    agree[rate] = differing == 0
    print(
        f"seen:     dropout {rate}: losses {loss.item():.0f} and {same_loss.item():.0f}, "
        f"{differing} of 1000 gradients differ"
    )
    assert loss.item() == same_loss.item()
sys.exit(agree != {0.0: True, 0.5: False})
EOF
