"""Compares answers generated in batches with the same answers one at a time.

The greedy answers of a model to the first records of a split, in one process: half of them one at a
time, then all in batches, then the other half one at a time. Prints a line of JSON: ratio, tokens
per second in batches divided by one at a time; cpu_ratio, the same per second of processor time,
which other load changes less; identical, whether all answers are equal; and both speeds.
--shape takes a model with random weights instead, whose answers never end early.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlxft.conversation.messages import Answer, Question, Sampling
from mlxft.data.examples import examples_of
from mlxft.engine.blas import blas_environment

if TYPE_CHECKING:
    from mlxft.compute.generation.chat_model import ChatModel

SAMPLE = Path(__file__).parent.parent / "data" / "test.jsonl"


@dataclass
class Timed:
    """Answers, and the seconds and processor time that they took."""

    answers: dict[int, Answer]
    seconds: float
    cpu_seconds: float

    @property
    def speed(self) -> float:
        """Tokens per second."""
        return self.tokens / self.seconds

    @property
    def tokens(self) -> int:
        """Generated tokens of all."""
        return sum(each.generated_tokens for each in self.answers.values())


def one_at_a_time(chat: ChatModel, questions: Sequence[tuple[int, Question]]) -> Timed:
    """Each question alone."""
    started, used = time.perf_counter(), time.process_time()
    found = {
        index: chat.answer(question, lambda _: None, lambda: False, fresh=True)
        for index, question in questions
    }
    return Timed(found, time.perf_counter() - started, time.process_time() - used)


def in_batches(chat: ChatModel, questions: Sequence[Question]) -> Timed:
    """All questions together."""
    batches: Any = import_module("mlxft.compute.generation.batches")
    variants: Any = import_module("mlxft.compute.models.variants")
    found: dict[int, Answer] = {}
    started, used = time.perf_counter(), time.process_time()
    batches.answer_all(
        chat.variants,
        variants.BASE,
        chat.tokenizer,
        questions,
        on_answer=found.__setitem__,
        cancelled=lambda: False,
    )
    return Timed(found, time.perf_counter() - started, time.process_time() - used)


def with_random_weights(shape: str, folder: Path) -> Path:
    """A model folder of a shape that the trainer's benchmark knows, with a tiny tokenizer."""
    sys.path.append(str(Path(__file__).parent.parent / "tests"))
    import mlx.core as mx
    from mlx.utils import tree_flatten

    from random_models import SHAPES, build
    from support.models import make_tiny_model

    config = {**SHAPES[shape], "eos_token_id": SHAPES[shape]["vocab_size"] - 1}
    make_tiny_model(folder)
    model = build(config, "bfloat16")
    mx.save_safetensors(str(folder / "model.safetensors"), dict(tree_flatten(model.parameters())))
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def measured(chat: ChatModel, questions: Sequence[Question]) -> dict[str, Any]:
    """Both ways on the same questions."""
    backend: Any = import_module("mlxft.compute.backend")
    numbered = list(enumerate(questions))
    half = len(numbered) // 2
    chat.load(None)
    one_at_a_time(chat, numbered[:1])
    if backend.kind() != "cpu":
        in_batches(chat, questions)  # Kernels are compiled for a batch of this size.
    before = one_at_a_time(chat, numbered[:half])
    together = in_batches(chat, questions)
    after = one_at_a_time(chat, numbered[half:])
    alone = Timed(
        {**before.answers, **after.answers},
        before.seconds + after.seconds,
        before.cpu_seconds + after.cpu_seconds,
    )
    differing = [
        index for index, _ in numbered if alone.answers[index].text != together.answers[index].text
    ]
    return {
        "ratio": round(together.speed / alone.speed, 2),
        "cpu_ratio": round(
            together.tokens / together.cpu_seconds / (alone.tokens / alone.cpu_seconds), 2
        ),
        "identical": not differing,
        "differing": len(differing),
        "questions": len(questions),
        "tokens": together.tokens,
        "batched_tokens_per_second": round(together.speed, 1),
        "single_tokens_per_second": round(alone.speed, 1),
    }


def main() -> None:
    """Measure both ways and print them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="print one line of JSON, as always")
    parser.add_argument("--model", default="demo", help="a model folder, or demo")
    parser.add_argument("--shape", choices=("1b", "3b"), help="random weights of a shape")
    parser.add_argument("--records", type=Path, default=SAMPLE, help="a file of records")
    parser.add_argument("--limit", type=int, default=50, help="records to answer")
    parser.add_argument("--max-tokens", type=int, default=64, help="longest answer")
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if not arguments.worker:
        # A fast BLAS is found through the environment of a new process.
        environment = {**os.environ, **blas_environment()}
        command = [sys.executable, __file__, *sys.argv[1:], "--worker"]
        raise SystemExit(subprocess.run(command, env=environment).returncode)
    backend: Any = import_module("mlxft.compute.backend")  # loads a fast BLAS, before mlx
    backend.initialise()
    from mlxft.compute.generation.chat_model import ChatModel
    from mlxft.compute.models import loading

    with tempfile.TemporaryDirectory() as folder:
        if arguments.shape:
            path = with_random_weights(arguments.shape, Path(folder))
        else:
            path = loading.locate(arguments.model, lambda _: None)
        sampling = Sampling(max_tokens=arguments.max_tokens)
        questions = [
            Question(example.messages, sampling)
            for example in examples_of(arguments.records, limit=arguments.limit)
        ]
        result = measured(ChatModel(path), questions)
    print(json.dumps({**result, "model": arguments.shape or arguments.model}))


if __name__ == "__main__":
    main()
