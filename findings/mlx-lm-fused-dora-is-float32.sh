#!/usr/bin/env bash
# Fusing DoRA turns 16-bit weights into float32, so that the fused layers take twice the space.
# This project: casts fused weights to the type that the layer had.
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
from mlx_lm.tuner.dora import DoRALinear
from mlx_lm.tuner.lora import LoRALinear

layer = nn.Linear(64, 32, bias=False)
layer.set_dtype(mx.bfloat16)
lora, dora = (kind.from_base(layer).fuse().weight.dtype for kind in (LoRALinear, DoRALinear))
print("mlx-lm 0.32.2, fuse() of adapters on a bfloat16 layer")
print("expected: bfloat16 for both, as the model has it")
print(f"seen:     {lora} for LoRA, {dora} for DoRA")
sys.exit(not (lora == mx.bfloat16 and dora == mx.float32))
EOF
