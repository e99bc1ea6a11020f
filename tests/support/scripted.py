"""Scripted runs: journals as an engine leaves them, with a clock of their own."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from mlxft import recipe as recipes
from mlxft.data.token_figures import Bin, TokenFigures
from mlxft.data.token_view import TokenPiece, TokenView
from mlxft.engine.protocol import MeasureTokens, Preview
from mlxft.recipe import Recipe
from mlxft.runs import events as ev
from mlxft.runs.directory import RunDirectory, create
from mlxft.runs.events import AnyEvent
from mlxft.runs.journal import JournalWriter

START = 1_700_000_000.0
"""The time of the first event of every scripted run."""


def write_run(
    root: Path, recipe: Recipe, events: Iterable[AnyEvent], name: str = "smollm2-lora"
) -> RunDirectory:
    """A run directory with these events, a second apart."""
    directory = create(root, recipe, name)
    ticks = itertools.count(START)
    journal = JournalWriter(directory.journal_file, clock=lambda: next(ticks))
    for event in events:
        journal.append(event)
    journal.close()
    return directory


def training(recipe: Recipe, steps: int, start: int = 0) -> list[AnyEvent]:
    """A session that has trained so many steps, with a loss that falls smoothly."""
    events: list[AnyEvent] = [
        ev.RunStarted(
            run="smollm2-lora-1",
            pid=4242,
            host="mac",
            recipe=recipes.to_mapping(recipe),
            iters=recipe.iters,
            start_step=start,
        )
    ]
    for step in range(start + 1, start + steps + 1):
        events.append(
            ev.StepFinished(
                step=step,
                loss=0.8 + 2.0 / step,
                tokens=400,
                seconds=0.5,
                learning_rate=recipe.learning_rate,
            )
        )
        if step % 20 == 0:
            events.append(
                ev.ValidationFinished(
                    step=step, loss=0.9 + 2.0 / step, tokens=900, seconds=2.0, best=True
                )
            )
            events.append(ev.CheckpointSaved(step=step, path=f"checkpoints/{step}"))
    return events


def backend() -> AnyEvent:
    """MLX on a Mac."""
    return ev.BackendReady(device="Apple M3 Pro", kind="metal", memory_limit=14_000_000_000)


def data_prepared(longest: int) -> AnyEvent:
    """The sample records as tokens, the longest of that length."""
    return ev.DataPrepared(
        train_records=300,
        valid_records=40,
        tokens=9000,
        trained_tokens=3000,
        longest=longest,
        truncated=0,
        untrainable=0,
        steps_per_epoch=75,
        padding_share=0.1,
    )


def finished(step: int, reason: str = "completed") -> AnyEvent:
    """The end of a run in order."""
    return ev.RunFinished(
        reason=reason,  # type: ignore[arg-type]
        step=step,
        first_loss=2.8,
        final_loss=0.9,
        best_validation_loss=1.0,
        best_validation_step=step,
        tokens_per_second=812.0,
        trained_tokens=400 * step,
        peak_memory=2_100_000_000,
        seconds=30.0,
        adapter_path="adapters",
    )


def records(count: int, first: int = 0) -> list[object]:
    """Requests about lamps, all different."""
    rooms = ("kitchen", "hall", "garden", "bedroom")
    return [
        {
            "prompt": f"Turn {'on' if n % 3 else 'off'} lamp {n} in the {rooms[n % 4]}"
            + " please" * (n % 7),
            "completion": json.dumps({"device": "lamp", "number": n, "on": bool(n % 3)}),
        }
        for n in range(first, first + count)
    ]


SMOLLM2: dict[str, Any] = {
    "model_type": "llama",
    "hidden_size": 576,
    "intermediate_size": 1536,
    "num_hidden_layers": 30,
    "num_attention_heads": 9,
    "num_key_value_heads": 3,
    "vocab_size": 49152,
    "tie_word_embeddings": True,
    "torch_dtype": "bfloat16",
}
"""The config.json of SmolLM2-135M, as far as it decides the memory."""


def token_view(preview: Preview) -> TokenView:
    """A record cut into words: the prompt masked if asked, the end cut off at the length."""
    words = [("<|im_start|>", False), ("user\n", False)]
    words += [(f"{word} ", False) for word in preview.record["prompt"].split()]
    words += [("<|im_end|>", False), ("\n", False)]
    words += [(f"{word} ", True) for word in preview.record["completion"].split()]
    pieces = tuple(
        TokenPiece(
            id=at,
            text=text,
            trained=trained or not preview.recipe.mask_prompt,
            kept=at < preview.recipe.max_seq_length,
            special=text.startswith("<|"),
        )
        for at, (text, trained) in enumerate(words)
    )
    return TokenView(pieces, "".join(text for text, _ in words))


def token_figures(command: MeasureTokens) -> TokenFigures:
    """Lamps measured: most are short, a few are cut where the recipe is."""
    limit = command.recipe.max_seq_length
    bins = (*(Bin(16 + at, 16 + at, 60 - 4 * at) for at in range(15)), Bin(31, 31, 1))
    overlong = sum(each.count for each in bins if each.low > limit)
    return TokenFigures(
        records=300,
        measured=300,
        tokens=9000,
        tokens_spread=0,
        longest=31,
        trained_tokens=3000,
        overlong=overlong,
        lost_tokens=overlong * 4,
        untrainable=0,
        padding_share=0.1,
        steps_per_epoch=300 // command.recipe.batch_size,
        bins=bins,
    )


def write_records(path: Path, records: Sequence[object]) -> None:
    """A file of records, one JSON value a line; text is written as it is."""
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = (record if isinstance(record, str) else json.dumps(record) for record in records)
    path.write_text("".join(line + "\n" for line in lines), encoding="utf-8")
