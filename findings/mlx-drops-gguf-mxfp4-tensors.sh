#!/usr/bin/env bash
# mx.load leaves out a GGUF file's MXFP4 tensors and all that follow, without an error.
# This project: counts the tensors in the file's header and refuses a file with types that MLX skips.
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

writer = gguf.GGUFWriter("model.gguf", "llama")
writer.add_tensor("first", np.ones((2, 64), np.float32))
blocks = np.random.default_rng(0).integers(0, 128, (2, 34), dtype=np.uint8)
writer.add_tensor("packed", blocks, raw_dtype=gguf.GGMLQuantizationType.MXFP4)
writer.add_tensor("last", np.ones((2, 64), np.float32))
writer.write_header_to_file()
writer.write_kv_data_to_file()
writer.write_tensors_to_file()
writer.close()

written = [each.name for each in gguf.GGUFReader("model.gguf").tensors]
seen = sorted(mx.load("model.gguf"))
print("mlx 0.32.4 and gguf 0.19.0 (llama.cpp's own package), a file with", ", ".join(written))
print("expected: the same tensors, or an error that names the type")
print("seen:    ", ", ".join(seen) or "none")
sys.exit(not (written == ["first", "packed", "last"] and seen == ["first"]))
EOF
