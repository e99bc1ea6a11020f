#!/usr/bin/env bash
# mlx_lm's GGUF export says that a byte-level BPE tokenizer is Llama's and leaves out its merges.
# This project: writes GGUF with llama.cpp's own package: tokenizer kind, merges and splitting included.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check \
    "mlx[cpu]==0.32.4" mlx-lm==0.32.2 gguf==0.19.0
cd "$folder"
venv/bin/python - <<'EOF'
import json
import sys
from pathlib import Path

import gguf
import mlx.core as mx
from mlx_lm.gguf import convert_to_gguf
from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

tokenizer = Tokenizer(models.BPE())
tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
special = trainers.BpeTrainer(
    vocab_size=300,
    special_tokens=["<|begin|>", "<|end|>"],
    initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
)
tokenizer.train_from_iterator(["the lamp in the kitchen, the lamp in the hall"] * 9, special)
PreTrainedTokenizerFast(
    tokenizer_object=tokenizer, bos_token="<|begin|>", eos_token="<|end|>", unk_token="<|end|>"
).save_pretrained("model")
merges = json.loads(Path("model/tokenizer.json").read_text())["model"]["merges"]
config = {
    "model_type": "llama",
    "hidden_size": 32,
    "num_hidden_layers": 0,
    "intermediate_size": 64,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
    "rms_norm_eps": 1e-5,
    "rope_theta": 1e4,
    "vocab_size": tokenizer.get_vocab_size(),
}
weights = {"model.embed_tokens.weight": mx.zeros((tokenizer.get_vocab_size(), 32))}
convert_to_gguf("model", weights, config, "model.gguf")
fields = gguf.GGUFReader("model.gguf").fields
kind = fields["tokenizer.ggml.model"].contents()
written = "tokenizer.ggml.merges" in fields
print(f"mlx-lm 0.32.2, a byte-level BPE tokenizer with {len(merges)} merges")
print("expected: tokenizer.ggml.model gpt2, and tokenizer.ggml.merges")
print(f"seen:     tokenizer.ggml.model {kind}, merges {'written' if written else 'missing'}")
sys.exit(not (merges and kind == "llama" and not written))
EOF
