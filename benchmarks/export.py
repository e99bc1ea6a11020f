"""What exports lose and cost: a run's logits elsewhere, and a 1B model's fusing against mlx_lm's.

``python benchmarks/export.py RUN --json``: the run is exported fused and as a PEFT adapter; with
torch and peft, and with xllamacpp (llama.cpp), both are loaded there, else those figures are null.
``--fuse`` measures the time and memory of fusing a random model of 1.2 billion weights in a process
of its own, once to warm up and then ``--pairs`` times in turns with ``mlx_lm fuse``.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

import mlx.core as mx
import numpy as np

from mlxft.compute.exporting import fused, gguf_model
from mlxft.compute.exporting.export import Job, export
from mlxft.compute.models import loading
from mlxft.compute.models.variants import Variants
from mlxft.compute.tokenization import load_tokenizer
from mlxft.export.model_card import Origin
from mlxft.export.types import Exported, Form, Quantize
from mlxft.runs.directory import RunDirectory
from support.models import make_tiny_model

PROMPTS: Final = (
    "The capital of France is",
    "Once upon a time there was a small lamp that",
    "def fibonacci(n):",
)
TOKENS: Final = 24
"""Greedy tokens compared in llama.cpp."""

SHAPE: Final = {
    "hidden_size": 2048,
    "intermediate_size": 8192,
    "num_hidden_layers": 16,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "vocab_size": 128256,
}


def exported(run: RunDirectory, form: Form, out: Path) -> Exported:
    """The run's export, unquantized."""
    recipe = run.recipe()
    job = Job(
        model=loading.locate(recipe.model, lambda _: None),
        adapter=run.path,
        recipe=recipe,
        data=Path(recipe.data),
        form=form,
        out=out,
        quantize=Quantize("none" if form == "mlx" else "keep"),
        origin=Origin(run=run.name),
    )
    return export(job, on_progress=lambda *_: None, cancelled=lambda: False)


def rows_of(model: Path) -> list[list[int]]:
    """The prompts' tokens."""
    tokenizer = load_tokenizer(model, False)
    return [tokenizer.encode(each, add_special_tokens=False) for each in PROMPTS]


def peft_logit_difference(run: RunDirectory, model: Path, adapter: Path) -> float | None:
    """The largest difference from PEFT's logits on torch; None without them."""
    if find_spec("torch") is None or find_spec("peft") is None:
        return None
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    variants = Variants(loading.load(model))
    variants.use(variants.saved(run.path)[0])
    base = AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32)
    theirs = PeftModel.from_pretrained(base, str(adapter))
    largest = 0.0
    for row in rows_of(model):
        with torch.no_grad():
            found = theirs(torch.tensor([row])).logits[0].numpy()
        ours = np.array(variants.loaded.model(mx.array([row]))[0].astype(mx.float32))
        largest = max(largest, float(np.abs(ours - found).max()))
    return largest


def gguf_tokens_equal(folder: Path, scratch: Path) -> int | None:
    """The fewest equal first greedy tokens in llama.cpp; None without it."""
    if find_spec("xllamacpp") is None:
        return None
    loaded, tokenizer, file = (
        loading.load(folder),
        load_tokenizer(folder, False),
        scratch / "m.gguf",
    )
    rows = rows_of(folder)
    wanted = [greedy(loaded.model, row) for row in rows]
    gguf_model.write_model(
        loaded.model, loaded.config, folder, tokenizer, file, "f32", lambda *_: None
    )
    return min(
        next((at for at in range(TOKENS) if theirs[at : at + 1] != ours[at : at + 1]), TOKENS)
        for theirs, ours in zip(greedy_in_llama_cpp(file, rows), wanted, strict=True)
    )


def greedy(model: Any, row: list[int]) -> list[int]:
    """The most probable next tokens."""
    from mlx_lm.models.cache import make_prompt_cache

    cache, found, tokens = make_prompt_cache(model), [], row
    for _ in range(TOKENS):
        tokens = [int(mx.argmax(model(mx.array([tokens]), cache=cache)[0, -1]).item())]
        found += tokens
    return found


def greedy_in_llama_cpp(file: Path, rows: list[list[int]]) -> list[list[int]]:
    """The same in llama.cpp."""
    from urllib.request import Request, urlopen

    import xllamacpp

    parameters = xllamacpp.CommonParams()
    parameters.model.path, parameters.n_ctx, parameters.n_parallel = str(file), 512, 1
    parameters.hostnames, parameters.port, parameters.verbosity = ["127.0.0.1"], 0, -1
    server = xllamacpp.Server(parameters)
    found = []
    for row in rows:
        question = {"prompt": row, "n_predict": TOKENS, "temperature": 0, "return_tokens": True}
        body = json.dumps({**question, "ignore_eos": True}).encode()
        request = Request(f"{server.listening_address}/completion", body)
        with urlopen(request, timeout=600) as reply:
            found.append(json.loads(reply.read())["tokens"])
    return found


# Fusing a large model


def make_large(folder: Path) -> tuple[Path, Path]:
    """A random model in bfloat16 and a LoRA adapter on it."""
    from mlx.utils import tree_flatten, tree_map
    from mlx_lm.tuner.utils import linear_to_lora_layers
    from mlx_lm.utils import _get_classes, save_model

    model_folder, adapter = make_tiny_model(folder / "model"), folder / "adapter"
    config = json.loads((model_folder / "config.json").read_text()) | SHAPE
    config["torch_dtype"] = "bfloat16"
    (model_folder / "config.json").write_text(json.dumps(config))
    model_class, arguments = _get_classes(config)
    model = model_class(arguments.from_dict(config))
    model.update(
        tree_map(
            lambda each: (0.02 * mx.random.normal(each.shape)).astype(mx.bfloat16),
            model.parameters(),
        )
    )
    (model_folder / "model.safetensors").unlink()
    save_model(model_folder, model)
    shape = {"rank": 8, "scale": 20.0, "dropout": 0.0}
    model.freeze()
    linear_to_lora_layers(model, 16, shape)
    trained = dict(tree_flatten(model.trainable_parameters()))
    adapter.mkdir()
    mx.save_safetensors(str(adapter / "adapters.safetensors"), trained)
    described = {"fine_tune_type": "lora", "num_layers": 16, "lora_parameters": shape}
    (adapter / "adapter_config.json").write_text(json.dumps(described))
    return model_folder, adapter


def fuse_ours(model: Path, adapter: Path, out: Path) -> None:
    """Fuse as an export does, without its comparison."""
    whole, config = fused.fused(model, adapter, Quantize("keep"), trust_remote_code=False)
    out.mkdir()
    fused.write(whole, config, model, out, lambda *_: None)


def cost(command: list[str]) -> tuple[float, int]:
    """Seconds and peak memory in bytes of a process."""
    started = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"{' '.join(command)} has failed")
    return time.perf_counter() - started, usage.ru_maxrss * (
        1 if sys.platform == "darwin" else 1024
    )


def fuse_against_mlx_lm(folder: Path, pairs: int) -> dict[str, Any]:
    """Times and peak memory of both, in turns."""
    model, adapter = make_large(folder)
    size = sum(each.stat().st_size for each in model.glob("*.safetensors"))
    paths = [str(model), str(adapter)]
    theirs = [
        "-m",
        "mlx_lm",
        "fuse",
        "--model",
        paths[0],
        "--adapter-path",
        paths[1],
        "--save-path",
    ]
    sides = {"ours": [__file__, "--child", *paths], "theirs": theirs}
    found: dict[str, list[tuple[float, int]]] = {side: [] for side in sides}
    for number in range(pairs + 1):
        for side, command in sides.items():
            out = folder / "out"
            figures = cost([sys.executable, *command, str(out)])
            subprocess.run(["rm", "-rf", str(out)], check=True)
            if number:
                found[side].append(figures)
    seconds = {side: statistics.median(each for each, _ in own) for side, own in found.items()}
    memory = {side: max(each for _, each in own) for side, own in found.items()}
    return {
        "time_ratio": round(seconds["ours"] / seconds["theirs"], 3),
        "seconds": {side: round(each, 2) for side, each in seconds.items()},
        "memory_to_model": {side: round(each / size, 3) for side, each in memory.items()},
        "model_bytes": size,
    }


def main() -> None:
    """Measure and print one line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path, nargs="?", help="the folder of a run")
    parser.add_argument(
        "--json", action="store_true", help="one line of JSON, which is the default"
    )
    parser.add_argument("--fuse", action="store_true", help="fuse a 1B model, too")
    parser.add_argument("--pairs", type=int, default=3)
    parser.add_argument("--child", nargs=3, type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        fuse_ours(*arguments.child)
        return
    result: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as scratch:
        if arguments.run:
            run = RunDirectory(arguments.run.resolve())
            model = loading.locate(run.recipe().model, lambda _: None)
            whole = exported(run, "mlx", Path(scratch) / "fused")
            adapter = exported(run, "peft", Path(scratch) / "peft")
            result["fused_logit_difference"] = whole.proof.largest_difference
            result["peft_logit_difference"] = peft_logit_difference(
                run, model, Path(adapter.folder)
            )
            result["gguf_tokens_equal"] = gguf_tokens_equal(Path(whole.folder), Path(scratch))
        if arguments.fuse:
            result |= fuse_against_mlx_lm(Path(scratch), arguments.pairs)
    print(json.dumps(result))


if __name__ == "__main__":
    main()
