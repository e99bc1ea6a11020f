#!/usr/bin/env bash
# Importing mlx_lm lowers the hard limit on open files, which a process can't raise again.
# This project: disables resource.setrlimit while it imports mlx_lm.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check \
    "mlx[cpu]==0.32.4" mlx-lm==0.32.2 transformers==5.24.0
cd "$folder"
venv/bin/python - <<'EOF'
import resource
import sys

before = resource.getrlimit(resource.RLIMIT_NOFILE)
if before[1] != resource.RLIM_INFINITY and before[1] <= 4096:
    sys.exit("a hard limit above 4096 open files is needed to see this (ulimit -Hn)")

import mlx_lm  # noqa: E402, F401

after = resource.getrlimit(resource.RLIMIT_NOFILE)
print("mlx-lm 0.32.2, soft and hard limit on open files around 'import mlx_lm'")
print("expected: an import leaves the process's limits, inherited by its children, as they were")
print(f"seen:     {before} before, {after} after")
sys.exit(after != (2048, 4096))
EOF
