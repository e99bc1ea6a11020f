"""The protocol of an engine's control socket: one JSON object per line, both ways.

A client sends a `Request`; the engine sends replies of the same id, the last of which is `Done` or
`Refused`. In a training engine `Done` means that the command is accepted; the journal reports what
was done.
"""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from mlxft.conversation.benchmark import SpeedRun
from mlxft.conversation.messages import Answer, Question, Sampling
from mlxft.conversation.scores import Evaluation
from mlxft.data.token_figures import TokenFigures
from mlxft.data.token_view import TokenView
from mlxft.export.model_card import Origin
from mlxft.export.quantization import Quantization, Quantized
from mlxft.export.types import Exported, Form, Quantize
from mlxft.recipe import ChatTemplate, Recipe
from mlxft.runs.events import BackendReady, ProgressMade, snake_case

MAX_LINE = 4 * 1024 * 1024
"""Longest line that either side accepts, in bytes."""


class Command(msgspec.Struct, frozen=True, tag_field="command", tag=snake_case):
    """A client's command."""


class Ping(Command, frozen=True):
    """Check that the engine responds."""


class Stop(Command, frozen=True):
    """Finish the step, save, and end the run; a model service ends at once."""


class Pause(Command, frozen=True):
    """Pause after this step."""


class Continue(Command, frozen=True):
    """Continue after a pause."""


class SaveCheckpoint(Command, frozen=True):
    """Save a checkpoint after this step."""


class Validate(Command, frozen=True):
    """Validate after this step."""


class Skip(Command, frozen=True):
    """Skip the sample that is being generated, or the validation before the first step."""


class SetLearningRate(Command, frozen=True):
    """Use this rate from the next update on, scaling the rest of a schedule in proportion.

    With `was`, the rate that the caller saw, the current rate is scaled by value / was instead.
    """

    value: float
    was: float = 0.0


class OpenModel(Command, frozen=True):
    """Model service: download the model if needed and load its tokenizer; sends `ModelOpened`."""

    model: str
    trust_remote_code: bool = False


class Preview(Command, frozen=True):
    """Model service: a record as tokens, as in training; sends `Previewed`."""

    record: dict[str, Any]
    recipe: Recipe


class MeasureTokens(Command, frozen=True):
    """Model service: count a file's tokens while there is nothing else to do.

    Streams `TokensMeasured`, first for a sample; without `whole` only for that. The next one
    replaces it.
    """

    path: str
    recipe: Recipe
    whole: bool = True


class Chat(Command, frozen=True):
    """Answer a question: streams `TextGenerated`, then `Answered`.

    `adapter` is a run's folder or an adapter file in it. Without it a training engine uses the
    adapter that it trains, a model service none. `template` is what the base model answers with in
    place of its own chat template.
    """

    question: Question
    adapter: str | None = None
    template: ChatTemplate | None = None


class SideBySide(Command, frozen=True):
    """Answer several questions at the same time; each reply has its question's index as `side`."""

    chats: tuple[Chat, ...]


class AnswerAll(Command, frozen=True):
    """Model service: answer many questions in batches; sends `Answered` as each is complete.

    The replies have their question's index as `side`. `adapter` and `template` are as in `Chat`.
    """

    questions: tuple[Question, ...]
    adapter: str | None = None
    template: ChatTemplate | None = None


class Export(Command, frozen=True):
    """Model service: export an adapter into a new folder; sends `ExportFinished`.

    `data` is the folder of the records that the export is compared on.
    """

    adapter: str
    recipe: Recipe
    form: Form
    out: str
    origin: Origin
    data: str | None = None
    quantize: Quantize = Quantize()


class QuantizeModel(Command, frozen=True):
    """Model service: write the model with other weights; sends `QuantizeFinished`.

    `data` is the folder of the records that the loss is measured on.
    """

    recipe: Recipe
    out: str
    quantization: Quantization
    data: str | None = None


class CancelChat(Command, frozen=True):
    """Stop answers within a token, and evaluations and speed measurements.

    Of an evaluation and of many answers, what is complete is kept.
    """


class MeasureSpeed(Command, frozen=True):
    """Model service: measure prompt and generation speed; streams `SpeedMeasured` per run."""

    adapter: str | None = None
    prompt_tokens: int = 512
    generation_tokens: int = 128
    runs: int = 5


class Evaluate(Command, frozen=True):
    """Model service: evaluate adapters on a split of a data folder; sends `Evaluated`.

    `sides` are names with the adapter of each, None for the base; the last is the one compared.
    """

    recipe: Recipe
    folder: str
    sides: tuple[tuple[str, str | None], ...]
    split: Literal["train", "valid", "test"] = "test"
    sampling: Sampling = Sampling()
    limit: int | None = None
    """Use only the first records; None uses all."""


AnyCommand = (
    Ping
    | Stop
    | Pause
    | Continue
    | SaveCheckpoint
    | Validate
    | Skip
    | SetLearningRate
    | OpenModel
    | Preview
    | MeasureTokens
    | Chat
    | SideBySide
    | AnswerAll
    | Export
    | QuantizeModel
    | CancelChat
    | MeasureSpeed
    | Evaluate
)


class Request(msgspec.Struct, frozen=True):
    """A command with the id of its replies."""

    id: int
    command: AnyCommand


class Reply(msgspec.Struct, frozen=True, kw_only=True, tag_field="reply", tag=snake_case):
    """An engine's reply."""

    id: int


class Done(Reply, frozen=True, kw_only=True):
    """The command is accepted, or its answer complete."""


class Refused(Reply, frozen=True, kw_only=True):
    """The command can't be followed; one sentence with the remedy."""

    message: str


class Progressed(Reply, frozen=True, kw_only=True):
    """Progress of anything longer than a second; `side` is an answer's index."""

    progress: ProgressMade
    side: int = 0


class ModelOpened(Reply, frozen=True, kw_only=True):
    """The model is local; `path` is its folder, `config` its config.json."""

    path: str
    config: dict[str, Any]
    has_chat_template: bool
    backend: BackendReady
    sampling: Sampling = Sampling()
    """The sampling its makers recommend."""


class Previewed(Reply, frozen=True, kw_only=True):
    """A record's tokens."""

    view: TokenView


class TokensMeasured(Reply, frozen=True, kw_only=True):
    """A file's figures so far; `share` of its lines, from 0 to 1, are counted."""

    figures: TokenFigures
    share: float


class TextGenerated(Reply, frozen=True, kw_only=True):
    """The next piece of an answer; `step` is the training step of the weights."""

    text: str
    side: int = 0
    step: int | None = None


class Answered(Reply, frozen=True, kw_only=True):
    """The whole answer and its cost; `step` is the training step of the weights."""

    answer: Answer
    step: int | None = None
    side: int = 0


class SpeedMeasured(Reply, frozen=True, kw_only=True):
    """One run of the speed measurement."""

    run: SpeedRun


class Evaluated(Reply, frozen=True, kw_only=True):
    """The result of an evaluation."""

    evaluation: Evaluation


class ExportFinished(Reply, frozen=True, kw_only=True):
    """The export is complete and in its place."""

    exported: Exported


class QuantizeFinished(Reply, frozen=True, kw_only=True):
    """The quantized model is complete and in its place."""

    quantized: Quantized


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
    | ExportFinished
    | QuantizeFinished
)
