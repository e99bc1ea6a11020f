"""`mlxft-tui evaluate`: a run's answers and scores on a split."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import msgspec

from mlxft.conversation.messages import Sampling
from mlxft.conversation.scores import Evaluation
from mlxft.engine.protocol import AnyReply, Evaluate, Evaluated, OpenModel
from mlxft.runs.directory import RunDirectory
from mlxft_tui.cli.service import run_on_service
from mlxft_tui.session import Session
from mlxft_tui.text.evaluation import evaluation_lines

if TYPE_CHECKING:
    from mlxft.data.split_files import SplitName


def evaluate(
    session: Session,
    run: RunDirectory,
    *,
    compare: RunDirectory | Literal["base"] | None,
    split: SplitName,
    limit: int | None,
    max_tokens: int,
    as_json: bool,
) -> int:
    """Print a run's scores, beside those of what it is compared with."""
    recipe = run.recipe()
    models: list[tuple[str, str | None]] = [_named(run)]
    if compare is not None:
        models.insert(0, ("base", None) if compare == "base" else _named(compare))
    command = Evaluate(
        recipe,
        str(session.data(recipe).resolve()),
        tuple(models),
        split,
        Sampling(max_tokens=max_tokens),
        limit,
    )

    def take(reply: AnyReply) -> None:
        if isinstance(reply, Evaluated) and as_json:
            print(msgspec.json.encode(_summary(reply.evaluation)).decode())
        elif isinstance(reply, Evaluated):
            print("\n".join(evaluation_lines(reply.evaluation, "raise --max-tokens")))

    opening = OpenModel(recipe.model, recipe.trust_remote_code)
    return run_on_service(session, opening, command, take, in_lines=True)


def _named(run: RunDirectory) -> tuple[str, str]:
    return run.name, str(run.path.resolve())


def _summary(found: Evaluation) -> dict[str, object]:
    scores = [
        {**msgspec.structs.asdict(each), "perplexity": each.perplexity} for each in found.scores
    ]
    return {**msgspec.structs.asdict(found), "scores": scores}
