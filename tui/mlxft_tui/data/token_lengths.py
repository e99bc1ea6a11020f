"""Token figures of the data under the recipe: from the cache at once, then from the service."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from typing import TYPE_CHECKING

from mlxft.engine.protocol import MeasureTokens, TokensMeasured
from mlxft.recipe import Recipe

if TYPE_CHECKING:
    from mlxft.data.folder_view import DataView
    from mlxft.data.split_files import SplitName
    from mlxft.data.token_figures import TokenFigures
    from mlxft_tui.session import Session

SETTLE_SECONDS = 0.3
"""How long a recipe must stay unchanged before its data is measured again."""


def kept(data: DataView, recipe: Recipe) -> dict[SplitName, TokenFigures]:
    """The cached figures of files measured before."""
    from mlxft.data.token_cache import kept_figures

    found = {split.name: kept_figures(split.path, recipe) for split in data.splits if split.places}
    return {name: each for name, each in found.items() if each is not None}


async def measured(
    session: Session, data: DataView, recipe: Recipe, *, whole: bool
) -> AsyncGenerator[Mapping[SplitName, TokenFigures], None]:
    """The figures of all files, one after the other; unless `whole` from samples only.

    The recipe's model must be open. Raises `EngineError`.
    """
    found = kept(data, recipe)
    client = await session.service()
    for split in data.splits:
        if split.places is None:
            continue
        async for reply in client.stream(MeasureTokens(str(split.path), recipe, whole)):
            if isinstance(reply, TokensMeasured):
                known = found.get(split.name)
                if known is None or reply.figures.whole or not known.whole:
                    found = {**found, split.name: reply.figures}
                    yield found
