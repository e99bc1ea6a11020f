#!/usr/bin/env bash
# mx.load reads the Q4_K tensors of a GGUF file without an error and with wrong values.
# This project: refuses a GGUF file with tensors of a type that MLX misreads or skips.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check \
    "mlx[cpu]==0.32.4" gguf==0.19.0 numpy==2.4.6
cd "$folder"
venv/bin/python - <<'EOF'
import sys

import gguf
import mlx.core as mx
import numpy as np

# Four blocks of 256 weights: two float16 scales, twelve bytes of group scales, 128 of weights.
blocks = np.random.default_rng(0).integers(0, 256, (4, 144), dtype=np.uint8)
blocks[:, :4] = np.array([0.01, 0.02], np.float16).view(np.uint8)
writer = gguf.GGUFWriter("model.gguf", "llama")
writer.add_tensor("weight", blocks, raw_dtype=gguf.GGMLQuantizationType.Q4_K)
writer.write_header_to_file()
writer.write_kv_data_to_file()
writer.write_tensors_to_file()
writer.close()

(tensor,) = gguf.GGUFReader("model.gguf").tensors
expected = gguf.dequantize(tensor.data, tensor.tensor_type)
seen = np.array(mx.load("model.gguf")["weight"].astype(mx.float32))
error = np.abs(seen - expected).reshape(-1, 2, 32).max((0, 2)) / np.abs(expected).max()
print("mlx 0.32.4 and gguf 0.19.0 (llama.cpp's own package), the same Q4_K tensor of 4 x 256")
print("expected: equal values up to float16's rounding, or an error")
print(f"seen:     off by up to {error[0]:.2%} of the largest value in even groups of 32,")
print(f"          by {error[1]:.0%} in odd ones")
sys.exit(not (error[0] < 0.01 and error[1] > 0.1))
EOF
