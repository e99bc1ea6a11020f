"""What goes over an engine's control socket: one JSON object a line, both ways.

A client sends a `Request`; the engine answers with replies of the same id, the last of which is
`Done` or `Refused`. A training engine confirms what it did in the journal; `Done` only says that
the command has been taken.
"""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from mlxft.conversation.benchmark import SpeedRun
from mlxft.conversation.messages import Answer, Question, Sampling
from mlxft.conversation.scores import Evaluation
from mlxft.data.token_figures import TokenFigures
from mlxft.data.token_view import TokenView
from mlxft.recipe import Recipe
from mlxft.runs.events import BackendReady, ProgressMade, snake_case

MAX_LINE = 4 * 1024 * 1024
"""Longest line either side accepts, in bytes."""


class Command(msgspec.Struct, frozen=True, tag_field="command", tag=snake_case):
    """What a client can ask for."""


class Ping(Command, frozen=True):
    """Is anybody there?"""


class Stop(Command, frozen=True):
    """Finish the step, save, and end the run; a model service just ends."""


class Pause(Command, frozen=True):
    """Wait after this step."""


class Continue(Command, frozen=True):
    """Go on after a pause."""


class SaveCheckpoint(Command, frozen=True):
    """Save adapter and resume state after this step."""


class Validate(Command, frozen=True):
    """Run the validation set after this step."""


class SetLearningRate(Command, frozen=True):
    """Use this rate from the next update on; a schedule goes on from there in proportion.

    Where it `was` another when this was asked for, the rate is changed as much as that has been,
    though a schedule has changed it since.
    """

    value: float
    was: float = 0.0


class OpenModel(Command, frozen=True):
    """Model service: make the model local and load its tokenizer; answers `ModelOpened`."""

    model: str
    trust_remote_code: bool = False


class Preview(Command, frozen=True):
    """Model service: show a record as the trainer sees it; answers `Previewed`."""

    record: dict[str, Any]
    recipe: Recipe


class MeasureTokens(Command, frozen=True):
    """Model service: a file's records in tokens, while it has nothing else to do.

    Streams `TokensMeasured`, a sample's figures first; without `whole` they are the last. Another
    one takes its place.
    """

    path: str
    recipe: Recipe
    whole: bool = True


class Chat(Command, frozen=True):
    """Answer a question: streams `TextGenerated`, then `Answered`.

    `adapter` is a run's folder or an adapter file in it, put on the weights in memory. Without it
    a training engine answers with the adapter that it trains, a model service with none.
    """

    question: Question
    adapter: str | None = None


class SideBySide(Command, frozen=True):
    """Answer several questions at the same time; each reply tells the side, from 0, it is of."""

    chats: tuple[Chat, ...]


class CancelChat(Command, frozen=True):
    """Stop the answers in progress within a token; an evaluation or a measurement also ends."""


class MeasureSpeed(Command, frozen=True):
    """Model service: how fast the model reads and writes; streams `SpeedMeasured` for each run."""

    adapter: str | None = None
    prompt_tokens: int = 512
    generation_tokens: int = 128
    runs: int = 5


class Evaluate(Command, frozen=True):
    """Model service: a run's adapter on a split of a data folder, answered by `Evaluated`.

    `sides` are names with the adapter of each, None for the base; the last one is judged.
    """

    recipe: Recipe
    folder: str
    sides: tuple[tuple[str, str | None], ...]
    split: Literal["train", "valid", "test"] = "test"
    sampling: Sampling = Sampling()
    limit: int | None = None
    """How many of the first records are taken; None takes all."""


AnyCommand = (
    Ping
    | Stop
    | Pause
    | Continue
    | SaveCheckpoint
    | Validate
    | SetLearningRate
    | OpenModel
    | Preview
    | MeasureTokens
    | Chat
    | SideBySide
    | CancelChat
    | MeasureSpeed
    | Evaluate
)


class Request(msgspec.Struct, frozen=True):
    """A command with the number its replies will carry."""

    id: int
    command: AnyCommand


class Reply(msgspec.Struct, frozen=True, kw_only=True, tag_field="reply", tag=snake_case):
    """What an engine sends back."""

    id: int


class Done(Reply, frozen=True, kw_only=True):
    """The command was taken, or its answer is complete."""


class Refused(Reply, frozen=True, kw_only=True):
    """The command can't be followed; one sentence with its remedy."""

    message: str


class Progressed(Reply, frozen=True, kw_only=True):
    """How far something longer than a second is; `side` is that of an answer."""

    progress: ProgressMade
    side: int = 0


class ModelOpened(Reply, frozen=True, kw_only=True):
    """The model is local; `path` is its folder, `config` its config.json."""

    path: str
    config: dict[str, Any]
    has_chat_template: bool
    backend: BackendReady
    sampling: Sampling = Sampling()
    """How its makers advise to sample."""


class Previewed(Reply, frozen=True, kw_only=True):
    """A record's tokens."""

    view: TokenView


class TokensMeasured(Reply, frozen=True, kw_only=True):
    """What is known of a file by now; `share` of its lines are done, of 1."""

    figures: TokenFigures
    share: float


class TextGenerated(Reply, frozen=True, kw_only=True):
    """The next piece of an answer; `step` is that of the weights in a training engine."""

    text: str
    side: int = 0
    step: int | None = None


class Answered(Reply, frozen=True, kw_only=True):
    """The whole answer and its cost; `step` is that of the weights in a training engine."""

    answer: Answer
    step: int | None = None
    side: int = 0


class SpeedMeasured(Reply, frozen=True, kw_only=True):
    """One run of the benchmark."""

    run: SpeedRun


class Evaluated(Reply, frozen=True, kw_only=True):
    """What came out of an evaluation."""

    evaluation: Evaluation


AnyReply = (
    Done
    | Refused
    | Progressed
    | ModelOpened
    | Previewed
    | TokensMeasured
    | TextGenerated
    | Answered
    | SpeedMeasured
    | Evaluated
)
