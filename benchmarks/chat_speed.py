"""Generation speed of the chat against mlx_lm's own, in tokens per second, in paired runs.

Answers to the same prompt come in turns from the model service over its socket, as the application
gets them, and from `mlx_lm.stream_generate` in another process; the first pair is a warm-up. Both
are timed where the text arrives, from the first piece to the last. Prints the mean of each; `ratio`
is the mean of the pairs' ratios, ours divided by theirs.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from figures import print_figures
from mlxft.conversation.messages import Message, Question, Sampling
from mlxft.engine.blas import blas_environment
from mlxft.engine.client import EngineClient
from mlxft.engine.launch import ModelService
from mlxft.engine.protocol import Answered, Chat, ModelOpened, OpenModel, TextGenerated

PROMPT = "Explain in detail how a compiler turns a program into machine code."


def theirs(folder: str, tokens: int) -> None:
    """The mlx_lm process: writes a line of JSON for each line it reads."""
    from mlxft.compute import backend

    backend.initialise()
    from mlx_lm.generate import stream_generate

    from mlxft.compute.models import loading
    from mlxft.compute.tokenization import load_tokenizer, render

    model = loading.load(Path(folder)).model
    tokenizer = load_tokenizer(Path(folder), trust_remote_code=False)
    prompt = list(render(tokenizer, [{"role": "user", "content": PROMPT}], answering=True))
    for _ in sys.stdin:
        times, count = [], 0
        for response in stream_generate(model, tokenizer, prompt, max_tokens=tokens):
            times.append(time.perf_counter())
            count = response.generation_tokens
        print(json.dumps({"tokens": count, "seconds": times[-1] - times[0]}), flush=True)


async def ours(client: EngineClient, tokens: int) -> dict[str, float]:
    """An answer of the model service, timed where its text arrives."""
    question = Question((Message("user", PROMPT),), Sampling(max_tokens=tokens))
    times: list[float] = []
    count = 0
    async for reply in client.stream(Chat(question)):
        if isinstance(reply, TextGenerated):
            times.append(time.perf_counter())
        elif isinstance(reply, Answered):
            count = reply.answer.generated_tokens
    return {"tokens": count, "seconds": times[-1] - times[0]}


async def measure(model: str, runs: int, tokens: int) -> dict[str, Any]:
    """The mean ratio, and the mean speed of each in tokens per second."""
    service = ModelService()
    environment = {**os.environ, **blas_environment()}
    mlx_lm: subprocess.Popen[str] | None = None
    pairs = []
    try:
        client = await service.client()
        opened = [each async for each in client.stream(OpenModel(model))]
        folder = next(each.path for each in opened if isinstance(each, ModelOpened))
        mlx_lm = subprocess.Popen(
            [sys.executable, __file__, "--theirs", folder, "--tokens", str(tokens)],
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert mlx_lm.stdin is not None
        assert mlx_lm.stdout is not None
        for run in range(runs + 1):
            mine: dict[str, float] = {}
            other: dict[str, float] = {}
            for turn in ("ours", "theirs") if run % 2 else ("theirs", "ours"):
                if turn == "ours":
                    mine = await ours(client, tokens)
                else:
                    print(file=mlx_lm.stdin, flush=True)
                    other = json.loads(await asyncio.to_thread(mlx_lm.stdout.readline))
            if run:
                pairs.append((_speed(mine), _speed(other)))
    finally:
        if mlx_lm is not None:
            mlx_lm.communicate()
        await service.close()
    ratios = [mine / other for mine, other in pairs]
    return {
        "ratio": round(statistics.fmean(ratios), 4),
        "ratio_deviation": round(statistics.stdev(ratios), 4) if len(ratios) > 1 else 0.0,
        "ours": round(statistics.fmean(mine for mine, _ in pairs), 2),
        "theirs": round(statistics.fmean(other for _, other in pairs), 2),
        "runs": runs,
        "tokens": tokens,
    }


def _speed(run: dict[str, float]) -> float:
    return (run["tokens"] - 1) / run["seconds"]


def main() -> None:
    """Print the figures, as one JSON line with ``--json``."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="print one JSON line")
    parser.add_argument("--model", default="demo")
    parser.add_argument("--runs", type=int, default=16, help="pairs after the warm-up")
    parser.add_argument("--tokens", type=int, default=48, help="tokens per answer")
    parser.add_argument("--theirs", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.theirs:
        theirs(options.theirs, options.tokens)
        return
    figures = asyncio.run(measure(options.model, options.runs, options.tokens))
    print_figures(figures, as_json=options.json)


if __name__ == "__main__":
    main()
