"""`mlxft-tui evaluate`: how good a run's answers are on a split."""

from __future__ import annotations

import msgspec

from mlxft.conversation.scores import Evaluation
from mlxft.engine.protocol import AnyReply, Evaluate, Evaluated, OpenModel
from mlxft_tui.cli.runs import ask_service
from mlxft_tui.session import Session
from mlxft_tui.text.evaluation import told


def evaluate(session: Session, opening: OpenModel, command: Evaluate, *, as_json: bool) -> int:
    """Print the answers that the training changed, and the figures of a split."""

    def take(reply: AnyReply) -> None:
        if isinstance(reply, Evaluated) and as_json:
            print(msgspec.json.encode(_summary(reply.evaluation)).decode())
        elif isinstance(reply, Evaluated):
            print("\n".join(told(reply.evaluation, "raise --max-tokens")))

    return ask_service(session, opening, command, take, in_lines=True)


def _summary(found: Evaluation) -> dict[str, object]:
    scores = [
        {**msgspec.structs.asdict(each), "perplexity": each.perplexity} for each in found.scores
    ]
    return {**msgspec.structs.asdict(found), "scores": scores}
