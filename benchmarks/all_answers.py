"""What `train_on: all_answers` saves: conversations of four turns, once and turn by turn.

The sum of the losses of all turns, trained together, must equal that of each turn trained as a
record of its own. Both passes are timed in turns, after a first of each that isn't counted.

    python benchmarks/all_answers.py [--json]
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

import mlx.core as mx
import mlx.optimizers as optim
from mlx_lm.utils import load_model

from mlxft import recipe as recipes
from mlxft.compute.models import adapters
from mlxft.compute.models.loading import LoadedModel
from mlxft.compute.tokenization import Tokenizer, load_tokenizer
from mlxft.compute.training.batches import TokenizedSplit, tokenize_split
from mlxft.compute.training.loss import chunked_loss
from mlxft.compute.training.step import Stepper
from mlxft.data.dataset import Record, Split
from mlxft.recipe import Recipe

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from support.models import make_tiny_model

TURNS: Final = 4
CONVERSATIONS: Final = 8
PASSES: Final = 3
WORDS: Final = [
    "turn",
    "on",
    "the",
    "lamp",
    "in",
    "the",
    "hall",
    "and",
    "dim",
    "the",
    "light",
    "of",
    "the",
    "kitchen",
]

Message = dict[str, Any]


def main() -> None:
    """Train both ways and print times and losses."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    with TemporaryDirectory() as folder:
        path = make_tiny_model(
            Path(folder), hidden_size=256, intermediate_size=1024, max_position_embeddings=2048
        )
        found = _measured(path)
    if arguments.json:
        print(json.dumps(found))
    else:
        print(*(f"{key} {value}" for key, value in found.items()), sep="\n")


def _measured(path: Path) -> dict[str, float]:
    settings = ["train_on=all_answers", "batch_size=4", "num_layers=-1", "max_seq_length=4096"]
    recipe = recipes.apply_settings(Recipe(model=str(path)), settings)
    tokenizer = load_tokenizer(path, trust_remote_code=False)
    conversations = _conversations()
    turns = [turn for each in conversations for turn in _turn_by_turn(each)]
    together = _tokenized(tokenizer, conversations, recipe)
    apart = _tokenized(tokenizer, turns, recipe)
    model, config = load_model(path)
    adapters.attach(LoadedModel(model, config, "llama", "float32", 0), recipe)
    mx.eval(model.parameters())
    _pass(model, together), _pass(model, apart)
    passes = [(_pass(model, together), _pass(model, apart)) for _ in range(PASSES)]
    (loss, _), (loss_apart, _) = passes[0]
    ratios = [once[1] / turn_by_turn[1] for once, turn_by_turn in passes]
    return {
        "conversations": len(conversations),
        "records_apart": len(turns),
        "trained_tokens": together.trained_tokens,
        "trained_tokens_apart": apart.trained_tokens,
        "loss_sum": loss,
        "loss_sum_apart": loss_apart,
        "relative_difference": abs(loss - loss_apart) / loss_apart,
        "seconds": statistics.median(once[1] for once, _ in passes),
        "seconds_apart": statistics.median(turn_by_turn[1] for _, turn_by_turn in passes),
        "time_ratio": statistics.median(ratios),
        "time_ratio_least": min(ratios),
        "time_ratio_most": max(ratios),
    }


def _conversations() -> list[list[Message]]:
    chance = random.Random(0)

    def said(role: str) -> Message:
        return {"role": role, "content": " ".join(chance.choices(WORDS, k=chance.randint(20, 40)))}

    roles = ("user", "assistant") * TURNS
    return [[said(role) for role in roles] for _ in range(CONVERSATIONS)]


def _turn_by_turn(messages: list[Message]) -> list[list[Message]]:
    """The conversation up to each answer, of which only that answer is trained."""
    untrained = [
        {**each, "weight": 0} if each["role"] == "assistant" else each for each in messages
    ]
    return [[*untrained[:at], messages[at]] for at in range(1, len(messages), 2)]


def _tokenized(
    tokenizer: Tokenizer, conversations: list[list[Message]], recipe: Recipe
) -> TokenizedSplit:
    records = tuple(Record(at, {"messages": each}) for at, each in enumerate(conversations, 1))
    split = Split("train", Path("train.jsonl"), records, ())
    return tokenize_split(tokenizer, split, recipe, seed=0)


def _pass(model: Any, data: TokenizedSplit) -> tuple[float, float]:
    """The sum of all trained tokens' losses, and the seconds of their gradients."""
    optimizer = optim.SGD(0.0)
    optimizer.init(model.trainable_parameters())
    stepper = Stepper(model, optimizer, seed=0, grad_checkpoint=False, loss=chunked_loss)
    batches = [data.arrays(each) for each in data.plan.epoch(0)]
    total, started = 0.0, time.perf_counter()
    for batch in batches:
        result = stepper.add_gradient(1, batch)
        stepper.update(0.0)
        total += result.loss * result.tokens
    return total, time.perf_counter() - started


if __name__ == "__main__":
    main()
