"""What a recipe trains outside of the blocks: the embedding and the head, or rows of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from mlxft.memory.blocks import Matrix
from mlxft.memory.shapes import ModelShapes
from mlxft.recipe import ALL_ROWS, Recipe

_EMBEDDINGS: Final = frozenset(
    {
        "embed",
        "embed_in",
        "embed_tokens",
        "embedding",
        "embeddings",
        "tok_embeddings",
        "token_embeddings",
        "word_embeddings",
        "wte",
    }
)
_HEADS: Final = frozenset({"embed_out", "head", "lm_head", "output"})
"""Names in mlx-lm's models."""


@dataclass(frozen=True, kw_only=True)
class TrainedOutside:
    """Shapes of the trained arrays outside of the blocks: a row for each output.

    `low_rank` has those of adapters, `rows` those of trained rows, `whole` the layers that full
    fine-tuning trains.
    """

    low_rank: tuple[tuple[int, int], ...] = ()
    rows: tuple[tuple[int, int], ...] = ()
    whole: tuple[tuple[int, int], ...] = ()
    of_embedding: bool = False
    """Whether gradients go through all blocks, down to the embedding."""
    of_head: int = 0
    """Parameters whose gradient every chunk of logits adds to."""

    @property
    def adapter(self) -> int:
        """Parameters of what is trained beside frozen layers."""
        return _size(self.low_rank) + _size(self.rows)

    @property
    def full(self) -> int:
        """Parameters of whole layers."""
        return _size(self.whole)

    @property
    def sides(self) -> int:
        """Rows and columns of all of it, which Adafactor keeps a value for."""
        return sum(sum(each) for each in (*self.low_rank, *self.rows, *self.whole))


def trained_outside(shapes: ModelShapes, recipe: Recipe) -> TrainedOutside:
    """What of a model's embedding and head a recipe trains."""
    layers = [shapes.embedding, *([shapes.head] if shapes.head else [])]
    if recipe.fine_tune_type == "full":
        if not recipe.train_embeddings:
            return TrainedOutside()
        whole = tuple((each.outputs, each.inputs) for each in layers)
        return TrainedOutside(whole=whole, of_embedding=True, of_head=_size(whole[-1:]))
    rank, dora = recipe.lora_parameters.rank, recipe.fine_tune_type == "dora"
    adapted = [each for each in layers if _is_named(each, layers, recipe.lora_parameters.keys)]
    low_rank = [
        shape
        for each in adapted
        for shape in (
            (each.outputs, rank),
            (rank, each.inputs),
            *([(each.outputs, 1)] if dora else []),
        )
    ]
    wanted = recipe.train_embeddings or ()
    count = shapes.embedding.outputs if wanted == ALL_ROWS else len(set(wanted))
    rows = [(count, each.inputs) for each in layers if count]
    head = layers[-1]
    of_head = rank * (head.outputs + head.inputs) if head in adapted else 0
    return TrainedOutside(
        low_rank=tuple(low_rank),
        rows=tuple(rows),
        of_embedding=bool(rows) or shapes.embedding in adapted,
        of_head=of_head + _size(rows[-1:]),
    )


def _is_named(matrix: Matrix, layers: list[Matrix], keys: tuple[str, ...] | None) -> bool:
    """Whether one of the keys names this layer, as ``model.embed_tokens`` or ``lm_head``."""
    names = [key.rpartition(".")[2] for key in keys or () if ".layers." not in f".{key}"]
    if matrix is layers[0]:
        return any(name in _EMBEDDINGS for name in names)
    return any(name in _HEADS for name in names)


def _size(shapes: tuple[tuple[int, int], ...] | list[tuple[int, int]]) -> int:
    return sum(outputs * inputs for outputs, inputs in shapes)
