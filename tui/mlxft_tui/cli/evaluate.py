"""`mlxft-tui evaluate`: a run's answers and scores on a split."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Literal

import msgspec

from mlxft import recipe as recipes
from mlxft.comparison.evaluations import keep_evaluation
from mlxft.conversation.messages import Sampling
from mlxft.conversation.scores import Evaluation
from mlxft.engine.protocol import AnyReply, Evaluate, Evaluated, OpenModel
from mlxft.errors import StorageError
from mlxft.recipe import Recipe
from mlxft.runs.directory import RunDirectory
from mlxft.text import path_json
from mlxft_tui.cli.service import refuse_unusable, run_on_service
from mlxft_tui.session import Session
from mlxft_tui.text.evaluation import evaluation_lines

if TYPE_CHECKING:
    from mlxft.adapters.found import FoundAdapter
    from mlxft.data.split_files import SplitName


def evaluate(
    session: Session,
    adapter: FoundAdapter,
    *,
    compare: FoundAdapter | Literal["base"] | None,
    model: str | None,
    data: str | None,
    split: SplitName,
    limit: int | None,
    max_tokens: int,
    as_json: bool,
) -> int:
    """Print an adapter's scores, beside those of what it is compared with.

    `model` and `data` replace those it was trained with. Raises `MlxftError`.
    """
    recipe = _recipe(session, adapter, model, data)
    others = [] if compare is None or compare == "base" else [compare]
    for each in (*others, adapter):
        refuse_unusable(session, each, recipe.model)
    models = [(each.name, str(each.path)) for each in (*others, adapter)]
    session.fetch_data(recipe)
    command = Evaluate(
        recipe,
        str(session.data(recipe).resolve()),
        (*([("base", None)] if compare == "base" else []), *models),
        split,
        Sampling(max_tokens=max_tokens),
        limit,
    )

    def take(reply: AnyReply) -> None:
        if isinstance(reply, Evaluated) and model is None:
            found = reply.evaluation
            for each, seen in ((adapter, found), *((other, found.swapped()) for other in others)):
                # Of a run with another model these aren't its own scores.
                if each.run is not None and each.recipe.model == recipe.model:
                    _keep(each.run, seen, command.folder)
        if isinstance(reply, Evaluated) and as_json:
            print(path_json.encode(_summary(reply.evaluation)).decode())
        elif isinstance(reply, Evaluated):
            print("\n".join(evaluation_lines(reply.evaluation, "raise --max-tokens")))

    opening = OpenModel(recipe.model, recipe.trust_remote_code)
    return run_on_service(session, opening, command, take, in_lines=True)


def _keep(run: RunDirectory, found: Evaluation, data: str) -> None:
    """Keep a run's scores for the table of runs; what can't be written is only not kept."""
    if found.unanswered:
        return
    try:
        keep_evaluation(run, found, data=data, now=time.time())
    except StorageError as error:
        print(error, file=sys.stderr)


def _recipe(session: Session, adapter: FoundAdapter, model: str | None, data: str | None) -> Recipe:
    """The adapter's recipe; one from elsewhere is scored on the project's data."""
    recipe = adapter.recipe
    if not adapter.is_run:
        own = session.saved_recipe()
        recipe = recipes.replace(recipes.replace(recipe, "data", own.data), "columns", own.columns)
    if model:
        recipe = recipes.replace(recipe, "model", model)
    return recipes.replace(recipe, "data", data) if data else recipe


def _summary(found: Evaluation) -> dict[str, object]:
    scores = [
        {**msgspec.structs.asdict(each), "perplexity": each.perplexity} for each in found.scores
    ]
    return {**msgspec.structs.asdict(found), "scores": scores}
