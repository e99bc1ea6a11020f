#!/usr/bin/env bash
# mlx_lm.lora --config FILE ignores two options that its YAML file may set.
# This project: the mlx_lm.lora command that it writes for a recipe sets both by flags.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check \
    "mlx[cpu]==0.32.4" mlx-lm==0.32.2 transformers==5.24.0
cd "$folder"
venv/bin/python - <<'EOF'
import sys
from pathlib import Path

from mlx_lm import lora

asked = {"iters": 7, "mask_prompt": True, "trust_remote_code": True, "clear_cache_threshold": 10**9}
Path("config.yaml").write_text("".join(f"{key}: {value}\n" for key, value in asked.items()))
used = {}
lora.run = lambda arguments: used.update(vars(arguments))  # no model is loaded
sys.argv = ["mlx_lm.lora", "--train", "--config", "config.yaml"]
lora.main()

print("mlx-lm 0.32.2, options in config.yaml:", asked)
print("expected: all of them reach the run, since the command line sets none of them")
print("seen:    ", {key: used[key] for key in asked})
ignored = [key for key in asked if used[key] != asked[key]]
sys.exit(ignored != ["trust_remote_code", "clear_cache_threshold"])
EOF
