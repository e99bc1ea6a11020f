#!/usr/bin/env bash
# On a model sharded over two ranks (tensor parallel), mlx-lm's LoRA adds no layer and says nothing; with keys it raises.
# This project: every rank of a run has the whole model, so a run never trains a sharded one.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check \
    "mlx[cpu]==0.32.4" mlx-lm==0.32.2 transformers==5.24.0
cd "$folder"
cat >rank.py <<'EOF'
import mlx.core as mx
import mlx.nn as nn
from mlx.utils import tree_flatten
from mlx_lm.models import llama
from mlx_lm.tuner.utils import linear_to_lora_layers

mx.set_default_device(mx.cpu)
group = mx.distributed.init(strict=True, backend="ring")
config = {"model_type": "llama", "hidden_size": 64, "num_hidden_layers": 2, "intermediate_size": 128, "vocab_size": 100,
          "num_attention_heads": 4, "num_key_value_heads": 2, "rms_norm_eps": 1e-5, "tie_word_embeddings": True}
lora = {"rank": 4, "scale": 2.0, "dropout": 0.0}
tokens = mx.random.randint(0, 100, (2, 17), key=mx.random.key(7))


def made(sharded):
    mx.random.seed(0)
    model = llama.Model(llama.ModelArgs.from_dict(config))
    mx.eval(model.parameters())
    if sharded:
        model.shard(group)
    return model


def gradients(model):
    loss = lambda m: nn.losses.cross_entropy(m(tokens[:, :-1]), tokens[:, 1:]).mean()
    return dict(tree_flatten(nn.value_and_grad(model, loss)(model)[1]))


def part(whole, like):
    axes = [a for a in range(whole.ndim) if whole.shape[a] != like.shape[a]]
    return mx.split(whole, group.size(), axis=axes[0])[group.rank()] if axes else whole


one, two = gradients(made(False)), gradients(made(True))
apart = [mx.abs(two[k] - part(one[k], two[k])).max() / mx.abs(one[k]).max() for k in sorted(two)]
difference = max(each.item() for each in apart)


def answer(model):
    found = tokens[:1, :4]
    for _ in range(12):
        found = mx.concatenate([found, mx.argmax(model(found)[:, -1:], axis=-1)], axis=1)
    return found.tolist()


same_answer = answer(made(False)) == answer(made(True))


def adapted(sharded, **more):
    model = made(sharded)
    model.freeze()
    linear_to_lora_layers(model, 2, {**lora, **more})
    return len(tree_flatten(model.trainable_parameters()))


try:
    named = adapted(True, keys=["self_attn.q_proj"])
except ValueError as error:
    named = str(error)
if group.rank() == 0:
    print("mlx-lm 0.32.2, mlx 0.32.4, a llama of 2 blocks sharded over 2 ranks")
    print(f"sharded layers alone: gradients differ by {difference:.1e}, the same answer: {same_answer}")
    print("expected: LoRA trains", adapted(False), "arrays, as without sharding, or an error")
    print("seen:     LoRA trains", adapted(True), "arrays; with keys:", named)
found = difference < 1e-5 and same_answer and adapted(True) == 0 and "AllToShardedLinear" in str(named)
raise SystemExit(not found)
EOF
venv/bin/python - <<'EOF'
import json
import os
import socket
import subprocess
import sys

opened = [socket.create_server(("127.0.0.1", 0)) for _ in range(2)]
with open("hosts.json", "w") as file:
    json.dump([[f"127.0.0.1:{each.getsockname()[1]}"] for each in opened], file)
for each in opened:
    each.close()
ranks = [
    subprocess.Popen(
        [sys.executable, "rank.py"],
        env={**os.environ, "MLX_RANK": str(rank), "MLX_HOSTFILE": "hosts.json"},
    )
    for rank in range(2)
]
sys.exit(any([each.wait() for each in ranks]))
EOF
