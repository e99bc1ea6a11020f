"""Compares this trainer with mlx_lm's own: speed, memory, and final loss.

Both train the same model on the same rows with the same settings, each in its own process, in
alternating slices of tokens, so that other load on the machine affects both. Only trained tokens
count, no padding, although mlx_lm's mask trains one padding token per row. mlx_lm batches with its
`iterate_batches`, this trainer with its batch plan. Prints a line of JSON for each case:

- throughput_ratio: trained tokens per second, ours divided by theirs, after a warm-up;
- peak_ratio: `mx.get_peak_memory`, including the model;
- loss_gap: the loss of the whole validation set, ours minus theirs, computed by one function after
  equally many trained tokens, give or take a batch; null for cases without validation.

Without --data the records are random tokens with the lengths of WikiSQL's. --shape trains a model
with random weights, on rows of one --length or with --records on records of real lengths, unpacked
and packed. --against compares with another checkout instead of mlx_lm: its own script trains there,
with its own `.venv` if it has one.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from importlib import import_module, metadata
from pathlib import Path
from typing import Any

from mlxft import recipe as recipes
from mlxft.data.dataset import load_split
from mlxft.engine.blas import blas_environment
from mlxft.recipe import Recipe
from random_models import BITS, GROUP, SHAPES, build, described, quantization, started

SIDES = ("ours", "theirs")

LENGTHS = (60, 75, 80, 84, 88, 91, 96, 100, 106, 115, 222)
"""Deciles of the lengths of WikiSQL's training records, in SmolLM2's tokens."""

LONG_LENGTHS = (300, 2000)
"""The shortest and longest of records whose lengths are equally likely."""


@dataclass(frozen=True)
class Case:
    """What is trained: `length` target tokens per row, or None for the data's records."""

    name: str
    batch_size: int = 2
    length: int | None = None
    packing: bool = False
    max_seq_length: int = 2048
    slices: int = 3
    validates: bool = False


CASES = (
    Case("rows512", batch_size=8, length=512, slices=1),
    Case("equal", length=128),
    Case("packed", packing=True, max_seq_length=512, validates=True),
    Case("unpacked", validates=True),
)
"""Cases for a CPU; the last has the default settings."""


@dataclass(frozen=True, kw_only=True)
class Job:
    """A case with everything that both trainers need."""

    case: Case
    model: str
    shape: str | None
    bits: int | None
    layers: int
    checkpoint: bool
    slice_tokens: int
    data: str
    mode: str = "affine"

    @property
    def recipe(self) -> Recipe:
        """The settings of both trainers."""
        case = self.case
        limit = case.max_seq_length if case.length is None else case.length + 1
        return recipes.apply_settings(
            Recipe(),
            [
                f"batch_size={case.batch_size}",
                f"num_layers={self.layers}",
                f"max_seq_length={limit}",
                f"packing={str(case.packing).lower()}",
                f"grad_checkpoint={str(self.checkpoint).lower()}",
                "learning_rate=1e-4",
            ],
        )


class NumberTokenizer:
    """A tokenizer for records of numbers."""

    bos_token = None
    bos_token_id = None
    eos_token = None
    eos_token_id = 0
    eos_token_ids = frozenset({0})

    def encode(self, text: str, add_special_tokens: bool = True) -> list[int]:
        return [int(each) for each in text.split()]

    def decode(self, tokens: list[int]) -> str:
        return " ".join(map(str, tokens))

    def convert_ids_to_tokens(self, token: int) -> str:
        """Written so that no record of numbers ends with it."""
        return f"<{token}>"


class Rows:
    """Token lists as the data of mlx_lm's `CacheDataset`."""

    def __init__(self, rows: list[list[int]]) -> None:
        self._rows = rows

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index: int) -> list[int]:
        return self._rows[index]

    def process(self, row: list[int]) -> tuple[list[int], int]:
        return row, 0


def generate(folder: Path, case: Case, vocabulary: int, lengths: tuple[int, ...] = LENGTHS) -> None:
    """Write records of random tokens; the tokenizer appends an end token to each.

    Between two of the `lengths` each length is equally likely, and so is each such interval.
    """
    source = random.Random(0)
    for name, count in (("train", 1000), ("valid", 100)):
        lines = []
        for _ in range(count):
            place = source.random() * (len(lengths) - 1)
            low, high = lengths[int(place)], lengths[int(place) + 1]
            length = case.length or round(low + (place % 1) * (high - low)) - 1
            numbers = (str(source.randrange(1, vocabulary)) for _ in range(length))
            lines.append(json.dumps({"text": " ".join(numbers)}) + "\n")
        (folder / f"{name}.jsonl").write_text("".join(lines))


def load(job: Job) -> tuple[Any, Any]:
    """The model without an adapter, and the data's tokenizer."""
    import mlx.core as mx
    from mlx_lm.utils import load_model, load_tokenizer

    if job.shape is None:
        path = Path(job.model)
        model, _ = load_model(path)
        if mx.default_device() == mx.Device(mx.cpu):
            model.set_dtype(mx.float32)
        tokenizer: Any = NumberTokenizer() if _is_generated(job) else load_tokenizer(path)
        return model, tokenizer
    dtype = "float32" if mx.default_device() == mx.Device(mx.cpu) else "bfloat16"
    return build(described(job.shape, job.bits, job.mode), dtype), NumberTokenizer()


def _is_generated(job: Job) -> bool:
    return (Path(job.data) / "generated").exists()


def encoded(job: Job, tokenizer: Any, split: Any) -> list[list[int]]:
    """A split's records as tokens."""
    rows = [tokenizer.encode(record.fields["text"]) for record in split.records]
    end = tokenizer.eos_token_id
    return [row if row[-1:] == [end] else [*row, end] for row in rows]


class Slices:
    """The slices of tokens that the parent requests, one line of standard input each."""

    def __init__(self, answer: Callable[[dict[str, Any]], None]) -> None:
        self._answer = answer
        self._wanted = self._done = 0
        self._started = 0.0

    def wants_step(self, tokens: int) -> bool:
        """Count the last step's tokens; after a slice wait for the next. False after the last."""
        self._done += tokens
        if self._done < self._wanted:
            return True
        if self._wanted:
            seconds = time.perf_counter() - self._started
            self._answer({"tokens": self._done, "seconds": seconds})
        self._wanted, self._done = int(sys.stdin.readline() or 0), 0
        self._started = time.perf_counter()
        return self._wanted > 0


def train_theirs(job: Job, model: Any, rows: list[list[int]], slices: Slices) -> None:
    """Train with mlx_lm's trainer as its command line does."""
    import mlx.core as mx
    import mlx.optimizers as optim
    from mlx_lm.tuner import trainer
    from mlx_lm.tuner.datasets import CacheDataset
    from mlx_lm.tuner.utils import linear_to_lora_layers

    recipe = job.recipe
    mx.random.seed(recipe.seed)
    model.freeze()
    linear_to_lora_layers(model, recipe.num_layers, recipes.to_mapping(recipe)["lora_parameters"])

    def batches(**options: Any) -> Iterator[Any]:
        tokens = 0
        for batch, spans in trainer.iterate_batches(**options, seed=recipe.seed):
            if not slices.wants_step(tokens):
                return
            tokens = int((spans[:, 1] - 1).sum().item())
            yield batch, spans

    never = sys.maxsize
    arguments = trainer.TrainingArgs(
        batch_size=recipe.batch_size,
        iters=never,
        steps_per_report=never,
        steps_per_eval=never,
        steps_per_save=never,
        max_seq_length=recipe.max_seq_length,
        adapter_file=str(Path(job.data) / "theirs.safetensors"),
        grad_checkpoint=recipe.grad_checkpoint,
    )
    trainer.train(
        model,
        optim.Adam(recipe.learning_rate),
        CacheDataset(Rows(rows)),
        args=arguments,
        iterate_batches=batches,
    )


def train_ours(job: Job, model: Any, tokenizer: Any, split: Any, slices: Slices) -> None:
    """Train with this project's steps and batch plan."""
    from mlxft.compute.models import adapters
    from mlxft.compute.models.loading import as_computed
    from mlxft.compute.training.batches import tokenize_split
    from mlxft.compute.training.limits import clear_cache, training_limits

    recipe = job.recipe
    train = tokenize_split(tokenizer, split, recipe, seed=recipe.seed)
    config = {**_config(job.model, job.shape), **quantization(job.bits, job.mode)}
    loaded = as_computed(model, config)
    adapters.attach(loaded, recipe)
    ready = started(loaded, recipe, train.longest)
    tokens = step = 0
    with training_limits(ready.run_ahead_limit):
        while slices.wants_step(tokens):
            step += 1
            batch = train.arrays(train.plan.batch(step))
            tokens = ready.stepper.add_gradient(step, batch).tokens
            ready.stepper.update(recipe.learning_rate)
            clear_cache(recipe.clear_cache_threshold)


def validation_loss(model: Any, rows: list[list[int]]) -> float:
    """The mean loss over all tokens, row by row without padding."""
    import mlx.core as mx
    import mlx.nn as nn

    from mlxft.compute.arrays import number

    model.eval()
    total, count = 0.0, 0
    for row in rows:
        tokens = mx.array([row])
        losses = nn.losses.cross_entropy(model(tokens[:, :-1]), tokens[:, 1:])
        total += number(losses.astype(mx.float32).sum())
        count += len(row) - 1
    return total / count


def work(side: str, job: Job, gpu: bool) -> None:
    """Train the slices requested on standard input, then report peak and loss."""
    # Keep mlx_lm's progress bar out of the output to the parent.
    parent = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)

    def answer(message: dict[str, Any]) -> None:
        print(json.dumps(message), file=parent)

    if side == "ours" or not gpu:
        # Loads the fast BLAS, which both should use. On a GPU it also limits command buffers,
        # which mlx_lm doesn't.
        import_module("mlxft.compute.backend")
    import mlx.core as mx

    model, tokenizer = load(job)
    split = load_split(Path(job.data), "train")
    mx.clear_cache()
    mx.reset_peak_memory()
    slices = Slices(answer)
    if side == "ours":
        train_ours(job, model, tokenizer, split, slices)
    else:
        train_theirs(job, model, encoded(job, tokenizer, split), slices)
    peak, loss = mx.get_peak_memory(), None
    if job.case.validates:
        loss = validation_loss(model, encoded(job, tokenizer, load_split(Path(job.data), "valid")))
    answer({"peak": peak, "loss": loss})
    mx.synchronize()
    mx.clear_streams()


class TrainerProcess:
    """A trainer in its own process, waiting for slices; another checkout's as ours is here."""

    def __init__(self, side: str, job: Job, gpu: bool, checkout: Path | None = None) -> None:
        given = asdict(job)
        if job.mode == Job.mode:
            del given["mode"]  # Earlier checkouts don't know it.
        python, script, own = sys.executable, Path(__file__), {}
        if checkout is not None:
            script = checkout / "benchmarks" / script.name
            path = [str(checkout / "core"), os.environ.get("PYTHONPATH", "")]
            own = {"PYTHONPATH": os.pathsep.join(filter(None, path))}
            venv = checkout / ".venv/bin/python"
            python = str(venv) if venv.exists() else python
        command = [python, str(script), "--side", side, "--job", json.dumps(given)]
        threads = 1
        if sys.platform == "linux":
            threads = max(1, len(os.sched_getaffinity(0)) - 1)
        environment = {
            "OPENBLAS_NUM_THREADS": str(threads),
            **os.environ,
            **blas_environment(),
            **own,
        }
        self._process = subprocess.Popen(
            command + (["--gpu"] if gpu else []),
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.trained = self.tokens = 0
        self.seconds = 0.0

    def warm_up(self, tokens: int) -> None:
        """Train at least this many tokens without measuring the speed."""
        self.trained += self._ask(tokens)["tokens"]

    def measure(self, total: int) -> None:
        """Measure a slice up to `total` trained tokens, so that both sides train equally many."""
        found = self._ask(max(1, total - self.trained))
        self.trained += found["tokens"]
        self.tokens += found["tokens"]
        self.seconds += found["seconds"]

    def end(self) -> dict[str, Any]:
        """End the process; its speed, peak in bytes and validation loss."""
        found = self._ask(0)
        self._process.wait()
        return {
            "tokens_per_second": round(self.tokens / self.seconds, 2),
            "tokens": self.tokens,
            "trained": self.trained,
            "seconds": round(self.seconds, 2),
            **found,
        }

    def close(self) -> None:
        """Kill the process if it is still running."""
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait()

    def _ask(self, tokens: int) -> dict[str, Any]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        print(tokens, file=self._process.stdin, flush=True)
        line = self._process.stdout.readline()
        if not line:
            raise SystemExit("A trainer ended early; its output is above.")
        found: dict[str, Any] = json.loads(line)
        return found


def compare(job: Job, gpu: bool, against: Path | None = None) -> dict[str, Any]:
    """A case's figures, both trainers in alternation, each in a fresh process.

    Theirs is mlx_lm's trainer, or the one of another checkout.
    """
    other = TrainerProcess("ours", job, gpu, against) if against else None
    sides = {
        "ours": TrainerProcess("ours", job, gpu),
        "theirs": other or TrainerProcess("theirs", job, gpu),
    }
    warm_up = 1 if job.case.slices == 1 else job.slice_tokens // 4
    try:
        for side in sides.values():
            side.warm_up(warm_up)
        for number in range(1, job.case.slices + 1):
            for side in sides.values():
                side.measure(warm_up + number * job.slice_tokens)
        ours, theirs = (sides[each].end() for each in SIDES)
    finally:
        for side in sides.values():
            side.close()
    both = ours["loss"] is not None and theirs["loss"] is not None
    return {
        "case": job.case.name,
        "throughput_ratio": round(ours["tokens_per_second"] / theirs["tokens_per_second"], 3),
        "peak_ratio": round(ours["peak"] / theirs["peak"], 3),
        "loss_gap": round(ours["loss"] - theirs["loss"], 4) if both else None,
        "ours": ours,
        "theirs": theirs,
        "against": against.name if against else "mlx_lm",
        "model": job.shape or Path(job.model).name,
        "bits": BITS.get(job.mode, job.bits),
        "mode": job.mode,
        "batch_size": job.case.batch_size,
        "layers": job.layers,
        "checkpoint": job.checkpoint,
    }


def located(model: str) -> str:
    """The model's folder, found by another process so that this one doesn't load MLX."""
    code = (
        "import sys; from mlxft.compute.models import loading; "
        "print(loading.locate(sys.argv[1], lambda _: None))"
    )
    environment = {**os.environ, **blas_environment()}
    command = [sys.executable, "-c", code, model]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    return done.stdout.splitlines()[-1]


def versions() -> dict[str, str]:
    """The versions that the figures depend on."""
    found = {"python": platform.python_version(), "machine": platform.machine()}
    for name in ("mlx", "mlx-lm"):
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = "unknown"
    return found


def _config(model: str, shape: str | None) -> dict[str, Any]:
    if shape:
        return SHAPES[shape]
    found: dict[str, Any] = json.loads((Path(model) / "config.json").read_text())
    return found


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="only lines of JSON")
    parser.add_argument("--data", type=Path, help="folder with train.jsonl and valid.jsonl")
    parser.add_argument("--model", default="demo", help="a model folder, or demo")
    parser.add_argument("--cases", nargs="*", help=f"any of {' '.join(c.name for c in CASES)}")
    parser.add_argument("--slice-tokens", type=int, default=800, help="tokens per slice")
    parser.add_argument("--slices", type=int, help="slices per trainer")
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--checkpoint", action=argparse.BooleanOptionalAction, default=False)
    parser.add_argument("--against", type=Path, help="another checkout, instead of mlx_lm")
    parser.add_argument("--gpu", action="store_true", help="keep MLX's defaults for mlx_lm")
    parser.add_argument("--shape", choices=SHAPES, help="use a model with random weights")
    parser.add_argument("--bits", type=int, help="quantize the model of --shape")
    parser.add_argument("--mode", choices=GROUP, default="affine", help="the quantized weights")
    parser.add_argument(
        "--records", choices=("short", "long"), help="real lengths instead of --length"
    )
    parser.add_argument("--batch", type=int, default=4, help="rows per batch, with --shape")
    parser.add_argument("--length", type=int, default=2048, help="tokens per row, with --shape")
    parser.add_argument("--side", choices=SIDES, help=argparse.SUPPRESS)
    parser.add_argument("--job", help=argparse.SUPPRESS)
    return parser


def _cases(arguments: argparse.Namespace) -> list[Case]:
    cases = [each for each in CASES if not arguments.cases or each.name in arguments.cases]
    if arguments.shape and arguments.records:
        records = arguments.records
        cases = [
            Case(records, arguments.batch),
            Case(f"{records}-packed", arguments.batch, packing=True),
        ]
        cases = [each for each in cases if not arguments.cases or each.name in arguments.cases]
    elif arguments.shape:
        name = f"{arguments.batch}x{arguments.length}"
        cases = [Case(name, batch_size=arguments.batch, length=arguments.length)]
    if arguments.slices:
        cases = [Case(**{**asdict(each), "slices": arguments.slices}) for each in cases]
    return cases


def _run(case: Case, arguments: argparse.Namespace, model: str) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder)
        if arguments.data is not None and case.length is None:
            for name in ("train.jsonl", "valid.jsonl"):
                (data / name).write_bytes((arguments.data / name).read_bytes())
        else:
            lengths = LONG_LENGTHS if arguments.records == "long" else LENGTHS
            generate(data, case, _config(model, arguments.shape)["vocab_size"], lengths)
            (data / "generated").touch()
        job = Job(
            case=case,
            model=model,
            shape=arguments.shape,
            bits=arguments.bits,
            layers=arguments.layers,
            checkpoint=arguments.checkpoint,
            slice_tokens=arguments.slice_tokens,
            data=folder,
            mode=arguments.mode,
        )
        return compare(job, arguments.gpu, arguments.against)


def main() -> None:
    """Compare the trainers in each case; the one with default settings comes last."""
    arguments = _parser().parse_args()
    if arguments.side:
        given = json.loads(arguments.job)
        job = Job(**{**given, "case": Case(**given["case"])})
        work(arguments.side, job, arguments.gpu)
        return
    model = "" if arguments.shape else located(arguments.model)
    if not arguments.json:
        print(" ".join(f"{name} {version}" for name, version in versions().items()), flush=True)
    for case in _cases(arguments):
        result = {**_run(case, arguments, model), "versions": versions()}
        print(json.dumps(result), flush=True)


if __name__ == "__main__":
    main()
