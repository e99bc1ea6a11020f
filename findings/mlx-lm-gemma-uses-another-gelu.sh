#!/usr/bin/env bash
# mlx-lm computes Gemma 1 with the exact gelu, its makers, transformers and llama.cpp with the tanh approximation.
# This project: exports of Gemma 1 are still written; docs/export.md says how far their logits are apart.
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
from mlx_lm.models import gemma, gemma2

x = 4 * mx.random.normal((1, 1, 16))


def apart(mlp: nn.Module) -> float:
    """From the product with the activation that Gemma's configs name, gelu_pytorch_tanh."""
    wanted = mlp.down_proj(nn.gelu_approx(mlp.gate_proj(x)) * mlp.up_proj(x))
    return mx.abs(mlp(x) - wanted).max().item()


first, second = apart(gemma.MLP(16, 64)), apart(gemma2.MLP(16, 64))
print("mlx-lm 0.32.2, a block's MLP against gelu_pytorch_tanh")
print("expected: 0 for Gemma 1 and 2")
print(f"seen:     {first:.1e} for Gemma 1, {second:.1e} for Gemma 2")
sys.exit(not (first > 1e-6 and second < 1e-7))
EOF
