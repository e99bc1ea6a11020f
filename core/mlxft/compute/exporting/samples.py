"""The records that weights are compared on."""

from __future__ import annotations

import contextlib
from dataclasses import replace
from pathlib import Path
from typing import Final

from mlxft import recipe as recipes
from mlxft.compute.exporting.proof import Row, Sample, compared, own_sample, questions_of
from mlxft.compute.models.variants import Variant, Variants
from mlxft.compute.tokenization import Tokenizer
from mlxft.compute.training.batches import tokenize_split
from mlxft.data.dataset import Split, load_split
from mlxft.data.examples import examples_of
from mlxft.data.split_files import SplitName
from mlxft.errors import DataError
from mlxft.recipe import Recipe

_SPLITS: Final[tuple[SplitName, ...]] = ("valid", "test", "train")
_RECORDS_READ: Final = 64


def sample_of(
    recipe: Recipe,
    data: Path | None,
    tokenizer: Tokenizer,
    variants: Variants,
    variant: Variant,
) -> Sample:
    """Records of the validation set, or of another, or else the variant's own answers."""
    for name in _SPLITS if data is not None else ():
        assert data is not None
        with contextlib.suppress(DataError, OSError):
            found = _of_split(load_split(data, name, recipe.columns), recipe, tokenizer)
            if compared(found):
                return replace(found, source={"valid": "validation"}.get(name, name))
    return own_sample(variants, variant, tokenizer)


def _of_split(split: Split, recipe: Recipe, tokenizer: Tokenizer) -> Sample:
    alone = recipes.apply_settings(recipe, ("batch_size=1", "packing=false"))
    few = replace(split, records=split.records[:_RECORDS_READ])
    tokenized = tokenize_split(tokenizer, few, alone, seed=0)
    rows = tuple(Row(each.tokens, each.spans) for each in tokenized.sequences)
    messages = [each.messages for each in examples_of(split.path, recipe.columns, len(rows))]
    return Sample(source="", rows=rows, questions=questions_of(messages))
