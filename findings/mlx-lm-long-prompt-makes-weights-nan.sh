#!/usr/bin/env bash
# With mask_prompt, mlx-lm makes the whole adapter NaN at a batch whose prompts fill max_seq_length.
# This project: omits records without a trained token, and says how many.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check \
    "mlx[cpu]==0.32.4" mlx-lm==0.32.2 transformers==5.24.0
cd "$folder"
venv/bin/python - <<'EOF'
import contextlib
import io
import sys

import mlx.core as mx
import mlx.nn as nn
import mlx.optimizers as optim
from mlx_lm.tuner.datasets import CacheDataset, CompletionsDataset
from mlx_lm.tuner.lora import LoRALinear
from mlx_lm.tuner.trainer import TrainingArgs, train


class Tokenizer:
    def apply_chat_template(self, messages, **options):
        return [3] * sum(len(message["content"]) for message in messages)


def share_of_nan(prompts):
    records = [{"prompt": "p" * length, "completion": "c" * 8} for length in prompts]
    dataset = CompletionsDataset(records, Tokenizer(), "prompt", "completion", mask_prompt=True)
    model = nn.Sequential(nn.Embedding(10, 8), nn.Linear(8, 10))
    model.freeze()
    model.layers[1] = LoRALinear.from_base(model.layers[1])
    arguments = TrainingArgs(
        batch_size=1, iters=4, max_seq_length=64, adapter_file="adapters.safetensors"
    )
    with contextlib.redirect_stdout(io.StringIO()):
        train(model, optim.Adam(1e-3), CacheDataset(dataset), args=arguments)
    saved = mx.load("adapters.safetensors").values()
    return sum(mx.isnan(each).sum().item() for each in saved) / sum(each.size for each in saved)


short, long = share_of_nan([10, 20, 30, 40]), share_of_nan([10, 20, 30, 80])
print("mlx-lm 0.32.2, mask_prompt, max_seq_length 64, four records, the last prompt 40 or 80 long")
print("expected: the record of 80, which has nothing left to train, changes nothing")
print(f"seen:     no error; of the saved weights {short:.0%} (40) and {long:.0%} (80) are NaN")
sys.exit(not (short == 0 and long == 1))
EOF
