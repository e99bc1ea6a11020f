"""Records of a small dataset, and what a model service reports about them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mlxft.data.token_figures import Bin, TokenFigures
from mlxft.data.token_view import TokenPiece, TokenView
from mlxft.engine.protocol import MeasureTokens, Preview


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


def write_records(path: Path, records: Sequence[object]) -> None:
    """A file of records, one JSON value a line; text is written as it is."""
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = (record if isinstance(record, str) else json.dumps(record) for record in records)
    path.write_text("".join(line + "\n" for line in lines), encoding="utf-8")


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
            trained=trained or preview.recipe.train_on != "last_answer",
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
        trained_weight=3000.0,
        trained_as=300,
        overlong=overlong,
        lost_tokens=overlong * 4,
        untrainable=0,
        padding_share=0.1,
        steps_per_epoch=300 // command.recipe.batch_size,
        bins=bins,
    )
