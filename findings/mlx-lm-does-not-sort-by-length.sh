#!/usr/bin/env bash
# mlx-lm sorts records by their number of dictionary keys, not of tokens, before making batches.
# This project: makes its own batches, sorted by token length within windows of the shuffled order.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check \
    "mlx[cpu]==0.32.4" mlx-lm==0.32.2 transformers==5.24.0
cd "$folder"
venv/bin/python - <<'EOF'
import sys

from mlx_lm.tuner.datasets import CacheDataset, TextDataset
from mlx_lm.tuner.trainer import iterate_batches


class Tokenizer:
    eos_token_id = 1

    def encode(self, text):
        return [2] * len(text)


class SortedByTokens(CacheDataset):
    def itemlen(self, index):
        return len(self[index][0])


def widths(dataset):
    return sorted(batch.shape[1] for batch, _ in iterate_batches(dataset, 4, 2048, seed=0))


records = TextDataset([{"text": "a" * length} for length in (10, 300) * 8], Tokenizer())
expected, seen = widths(SortedByTokens(records)), widths(CacheDataset(records))
print("mlx-lm 0.32.2, 8 records of 11 tokens and 8 of 301 in turn, batches of 4")
print("expected: 'Sort by length' in iterate_batches puts short ones together; widths", expected)
print("seen:     each batch mixes both; widths", seen)
sys.exit(not (expected == [33, 33, 321, 321] and seen == [321] * 4))
EOF
