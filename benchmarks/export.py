"""What exports lose and cost: a run's logits elsewhere, and a 1B model's fusing against mlx_lm's.

``python benchmarks/export.py RUN --json``: ``mlxft-tui export`` writes the run fused, as a PEFT
adapter and as an f32 GGUF file, and compares each: ``fused_logit_difference`` is what it prints,
``seconds_with_proof`` what the whole commands take. With torch and peft the PEFT adapter is loaded
there (``peft_logit_difference``), with xllamacpp, a wheel of llama.cpp, the GGUF file
(``gguf_tokens_equal``, the fewest equal first greedy tokens of three prompts); without them these
figures are null.

``--fuse`` measures time and memory of fusing a random bfloat16 model of 1.2 billion weights, once
to warm up and then ``--pairs`` times in turns with ``mlx_lm fuse``. Both are whole Python
processes, from the start of the interpreter to its end, with the same output. Ours is what
``mlxft-tui export --to mlx`` does in its model service, from the checks to the renamed folder,
without the proof, which mlx_lm has nothing to compare with.
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
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

import numpy as np

from mlxft.engine.blas import blas_environment
from mlxft.export.types import Form
from mlxft.runs.directory import RunDirectory
from mlxft.storage.paths import demo_model

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


def environment() -> dict[str, str]:
    """With the BLAS that engines use."""
    return {**os.environ, **blas_environment()}


def exported(run: RunDirectory, form: Form, out: Path, quantize: str) -> dict[str, Any]:
    """What the command says of a run's export, and its seconds."""
    command = [sys.executable, "-m", "mlxft_tui.cli", "export", str(run.path), "--to", form]
    started = time.perf_counter()
    output = subprocess.run(
        [*command, "--out", str(out), "--quantize", quantize, "--json"],
        check=True,
        stdout=subprocess.PIPE,
        env=environment(),
    ).stdout
    seconds = time.perf_counter() - started
    return {**json.loads(output.splitlines()[-1]), "seconds": round(seconds, 1)}


# In a process with MLX and the fast BLAS


def compute_here(model: Path, adapter: Path, fused: Path, out: Path) -> None:
    """Save the prompts' tokens, their logits with the adapter, and what the fused model writes."""
    from mlxft.compute import backend  # Before mlx: it loads the BLAS.

    backend.initialise()
    import mlx.core as mx

    from mlxft.compute.models import loading
    from mlxft.compute.models.variants import Variants
    from mlxft.compute.tokenization import load_tokenizer

    tokenizer = load_tokenizer(model, False)
    rows = [tokenizer.encode(each, add_special_tokens=False) for each in PROMPTS]
    variants = Variants(loading.load(model))
    variants.use(variants.saved(adapter)[0])
    found: dict[str, Any] = {}
    for number, row in enumerate(rows):
        logits = variants.loaded.model(mx.array([row]))[0].astype(mx.float32)
        found |= {f"row{number}": np.array(row), f"logits{number}": np.array(logits)}
    whole = loading.load(fused).model
    for number, row in enumerate(rows):
        found[f"next{number}"] = np.array(greedy(whole, row))
    np.savez(out, **found)


def greedy(model: Any, row: list[int]) -> list[int]:
    """The most probable next tokens."""
    import mlx.core as mx
    from mlx_lm.models.cache import make_prompt_cache

    cache, found, tokens = make_prompt_cache(model), [], row
    for _ in range(TOKENS):
        tokens = [int(mx.argmax(model(mx.array([tokens]), cache=cache)[0, -1]))]
        found += tokens
    return found


# Elsewhere


def peft_logit_difference(ours: dict[str, Any], model: Path, adapter: Path) -> float | None:
    """The largest difference from PEFT's logits on torch; None without them."""
    if find_spec("torch") is None or find_spec("peft") is None:
        return None
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    base = AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32)
    theirs = PeftModel.from_pretrained(base, str(adapter))
    largest = 0.0
    for number in range(len(PROMPTS)):
        with torch.no_grad():
            found = theirs(torch.tensor(ours[f"row{number}"])[None]).logits[0].numpy()
        largest = max(largest, float(np.abs(ours[f"logits{number}"] - found).max()))
    return largest


def gguf_tokens_equal(ours: dict[str, Any], file: Path) -> int | None:
    """The fewest equal first greedy tokens in llama.cpp; None without it."""
    if find_spec("xllamacpp") is None:
        return None
    rows = [ours[f"row{number}"].tolist() for number in range(len(PROMPTS))]
    wanted = [ours[f"next{number}"].tolist() for number in range(len(PROMPTS))]
    return min(
        next((at for at in range(TOKENS) if theirs[at : at + 1] != own[at : at + 1]), TOKENS)
        for theirs, own in zip(greedy_in_llama_cpp(file, rows), wanted, strict=True)
    )


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


def make_large(folder: Path) -> None:
    """A random model in bfloat16 and a LoRA adapter on it."""
    import mlx.core as mx
    from mlx.utils import tree_flatten, tree_map
    from mlx_lm.tuner.utils import linear_to_lora_layers
    from mlx_lm.utils import _get_classes, save_model

    from support.models import make_tiny_model

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


def fuse_ours(model: Path, adapter: Path, out: Path) -> None:
    """What an export does without its comparison."""
    from mlxft.compute import backend

    backend.initialise()
    from mlxft.compute.exporting import fused
    from mlxft.export.place import beside
    from mlxft.export.refusal import refuse, subject_of
    from mlxft.export.types import Quantize

    refuse("mlx", subject_of(adapter, model))
    with beside(out) as folder:
        whole, config = fused.fused(model, adapter, Quantize("keep"), trust_remote_code=False)
        fused.write(whole, config, model, folder, lambda *_: None)
        folder.rename(out)


def cost(command: list[str]) -> tuple[float, int]:
    """Seconds and peak memory in bytes of a process."""
    started = time.perf_counter()
    process = subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environment()
    )
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"{' '.join(command)} has failed")
    return time.perf_counter() - started, usage.ru_maxrss * (
        1 if sys.platform == "darwin" else 1024
    )


def fuse_against_mlx_lm(folder: Path, pairs: int) -> dict[str, Any]:
    """Times and peak memory of both, in turns."""
    # In a process of its own, since a child's peak on Linux is at least its parent's at the start.
    make = [sys.executable, __file__, "--child", "make", str(folder)]
    subprocess.run(make, check=True, env=environment())
    model, adapter = folder / "model", folder / "adapter"
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
    sides = {"ours": [__file__, "--child", "fuse", *paths], "theirs": theirs}
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
    parser.add_argument("--child", nargs="+", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        kind, *paths = arguments.child
        children: dict[str, Callable[..., None]] = {
            "fuse": fuse_ours,
            "compute": compute_here,
            "make": make_large,
        }
        children[kind](*map(Path, paths))
        return
    result: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as scratch:
        if arguments.run:
            result |= compare(RunDirectory(arguments.run.resolve()), Path(scratch))
        if arguments.fuse:
            result |= fuse_against_mlx_lm(Path(scratch), arguments.pairs)
    print(json.dumps(result))


def compare(run: RunDirectory, scratch: Path) -> dict[str, Any]:
    """A run's exports here and elsewhere."""
    name = run.recipe().model
    model = demo_model() if name == "demo" else Path(name)
    forms: tuple[tuple[Form, str], ...] = (("mlx", "none"), ("peft", "keep"), ("gguf", "f32"))
    whole = {form: exported(run, form, scratch / form, kind) for form, kind in forms}
    file = scratch / "ours.npz"
    paths = [str(each) for each in (model, run.path, scratch / "mlx", file)]
    command = [sys.executable, __file__, "--child", "compute", *paths]
    subprocess.run(command, check=True, env=environment())
    ours = dict(np.load(file))
    (gguf,) = (scratch / "gguf").glob("*.gguf")
    return {
        "fused_logit_difference": whole["mlx"]["proof"]["largest_difference"],
        "peft_logit_difference": peft_logit_difference(ours, model, scratch / "peft"),
        "gguf_tokens_equal": gguf_tokens_equal(ours, gguf),
        "seconds_with_proof": {form: each["seconds"] for form, each in whole.items()},
    }


if __name__ == "__main__":
    main()
