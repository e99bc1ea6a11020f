"""The typed events of a run's journal: all a viewer knows about a run."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

import msgspec

from mlxft.errors import FailureCause
from mlxft.hosts.link import Link
from mlxft.telemetry.sample import Sample
from mlxft.text import path_json

SCHEMA = 1
"""Version of the event schema, written into `RunStarted`."""


Moment = Annotated[float, msgspec.Meta(ge=-1e11, le=1e11)]
"""Seconds since 1970; only a damaged line exceeds the limits."""

Count = Annotated[int, msgspec.Meta(ge=-(2**53), le=2**53)]
"""Steps or tokens: an integer that a float64 column holds exactly."""

Seconds = Annotated[float, msgspec.Meta(le=1e9)]


def snake_case(name: str) -> str:
    """`RunStarted` as `run_started`."""
    return re.sub(r"(?<!^)(?=[A-Z])", "_", name).lower()


class Event(msgspec.Struct, frozen=True, kw_only=True, gc=False, tag_field="event", tag=snake_case):
    """What every event carries: its position in the journal and the time it was written.

    Events hold no cycles, so the garbage collector can skip a million of them.
    """

    seq: int = 0
    time: Moment = 0.0


class RunStarted(Event, frozen=True, kw_only=True):
    """An engine took the run directory; the first event of each session of a run."""

    run: str
    pid: int
    host: str
    recipe: dict[str, Any]
    iters: Count
    start_step: Count = 0
    versions: dict[str, str] = {}
    schema: int = SCHEMA


class BackendReady(Event, frozen=True, kw_only=True):
    """MLX is loaded; `gflops` is a measured float32 matrix product, on a CPU only."""

    device: str
    kind: Literal["metal", "cuda", "cpu"]
    blas: str | None = None
    gflops: float | None = None
    memory_limit: int | None = None


ProgressStage = Literal[
    "downloading",
    "importing",
    "loading",
    "tokenizing",
    "validating",
    "saving",
    "waiting",
    "reading",
    "answering",
    "sampling",
    "evaluating",
    "measuring",
    "reference",
]


class ProgressMade(Event, frozen=True, kw_only=True):
    """Progress of something that takes more than a second; `total` may be unknown.

    While a sample is generated `note` is its text so far.
    """

    stage: ProgressStage
    done: Count
    total: int | None = None
    note: str = ""


class ModelLoaded(Event, frozen=True, kw_only=True):
    """The model is in memory with its adapter.

    `expected_peak` is the estimate of MLX's peak memory in bytes; of an unknown model family it is
    corrected by small steps of the model. None if it can't be made.
    """

    model: str
    model_type: str
    total_parameters: int
    trainable_parameters: int
    quantization: str
    dtype: str
    seconds: float
    expected_peak: int | None = None


class OperationsChosen(Event, frozen=True, kw_only=True):
    """How the run computes attention and products with quantized weights, and compiles its steps.

    `reasons` has a sentence about each, with what it was chosen by. Another one follows where steps
    are compiled later on.
    """

    reasons: list[str]


class DataPrepared(Event, frozen=True, kw_only=True):
    """The records are tokenized; truncated and skipped ones are counted."""

    train_records: int
    valid_records: int
    tokens: Count
    trained_tokens: Count
    longest: int
    truncated: int
    untrainable: int
    steps_per_epoch: int
    padding_share: float
    split: int = 0
    dropped: int = 0
    rows: int = 0
    """Rows per epoch: fewer than sequences if they are packed."""
    trained_as: int = 0
    """Records as they are trained: several of a conversation whose answers see it differently."""
    fingerprints: dict[str, str] = {}
    """The first digits of the SHA-256 of the train and valid files; empty in older journals."""


class Preference(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What a loss that trains a preference says of a batch, as means per answer.

    A reward is beta times the answer's log-probability less that before training; for orpo and
    simpo, which have no reference, beta times its mean log-probability per token. `margin` is the
    chosen reward less the rejected one, `accuracy` the share of pairs where that is positive, equal
    rewards counting half; for kto the share of answers that are on their side of `kl`, its estimate
    of the KL divergence from the model before training. Log-probabilities are sums over an
    answer's tokens. None where a batch has no such answer.
    """

    chosen_reward: float | None
    rejected_reward: float | None
    margin: float | None
    accuracy: float
    chosen_logp: float | None
    rejected_logp: float | None
    kl: float | None = None


class StepFinished(Event, frozen=True, kw_only=True):
    """One batch was trained on; `loss` is its mean over trained tokens, or over its pairs.

    `preference` is None with the loss sft.
    """

    step: Count
    loss: float
    tokens: Count
    seconds: Seconds
    learning_rate: float
    gradient_norm: float | None = None
    preference: Preference | None = None


class TrainReported(Event, frozen=True, kw_only=True):
    """A summary of the steps since the last report; memory in bytes."""

    step: Count
    loss: float
    learning_rate: float
    steps_per_second: float
    tokens_per_second: float
    trained_tokens: Count
    peak_memory: int
    active_memory: int
    cache_memory: int


class RankReport(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What one of a run's processes (ranks) has done since the last report; memory in bytes.

    `seconds` is the mean time of a step that it computed, without waiting for others, and
    `tokens_per_second` its trained tokens in that time. `busy` is the share of the whole time since
    the last report in which it computed steps. Memory is None until it is reported.
    """

    rank: int
    host: str
    seconds: float
    tokens_per_second: float
    busy: float = 0.0
    active_memory: int | None = None
    peak_memory: int | None = None


class RanksJoined(Event, frozen=True, kw_only=True):
    """The run's processes have formed a group over MLX's `backend`; `hosts` has each one's machine.

    `link` is what a sum over all of them costs, and `message` the bytes that each step adds up; it
    took `seconds` on average when it was measured.
    """

    hosts: list[str]
    backend: str
    link: Link
    message: int
    seconds: float


class RanksReported(Event, frozen=True, kw_only=True):
    """What each of the run's processes has done; written with a report where there are several."""

    step: Count
    ranks: list[RankReport]


class ValidationFinished(Event, frozen=True, kw_only=True):
    """The mean loss over the validation set's trained tokens or pairs, with the weights after
    `step`.

    At step 0 it is the baseline, before training, which is never the best.
    """

    step: Count
    loss: float
    tokens: Count
    seconds: float
    best: bool
    preference: Preference | None = None


class CheckpointSaved(Event, frozen=True, kw_only=True):
    """Adapter and resume state are on disk; `path` is relative to the run directory."""

    step: Count
    path: str
    best: bool = False
    seconds: float = 0.0


class LearningRateChanged(Event, frozen=True, kw_only=True):
    """The learning rate was changed manually, from the next update on."""

    step: Count
    learning_rate: float


class RunPaused(Event, frozen=True, kw_only=True):
    """The run is paused after `step`."""

    step: Count


class RunContinued(Event, frozen=True, kw_only=True):
    """The run continues after a pause."""

    step: Count
    paused_seconds: float


class ChatAnswered(Event, frozen=True, kw_only=True):
    """A question was answered between two steps; the run paused for `seconds`."""

    step: Count
    tokens: Count
    seconds: float


class SampleAnswered(Event, frozen=True, kw_only=True):
    """The recipe's sample prompt was answered with the weights after `step`."""

    step: Count
    prompt: str
    text: str
    tokens: Count
    seconds: float


class WorkSkipped(Event, frozen=True, kw_only=True):
    """The sample after `step`, or the validation before the first step, was skipped on request."""

    step: Count
    stage: Literal["sampling", "validating"]


class SleepPrevented(Event, frozen=True, kw_only=True):
    """The engine prevents the machine's sleep until it ends; `by` is the tool it uses."""

    by: str


class MachineSampled(Event, frozen=True, kw_only=True):
    """The machine's load and the engine's memory; None until MLX is loaded."""

    sample: Sample
    active_memory: int | None = None
    peak_memory: int | None = None
    cache_memory: int | None = None
    resident_memory: int | None = None


class Warned(Event, frozen=True, kw_only=True):
    """Something the user should know: one sentence with its remedy."""

    message: str
    step: Count | None = None


class RunFinished(Event, frozen=True, kw_only=True):
    """The run ended without an error; the last event of a session. Memory in bytes.

    `first_loss` is that of the first step, `final_loss` that of the last report, `baseline_loss`
    the validation loss before the first step. Speed, seconds and memory cover all sessions since
    `since_step`: 0, or later if earlier sessions recorded none. None in older journals.
    `ends_round`: whether it was stopped where it should, after the last step of its sweep's round.
    """

    reason: Literal["completed", "stopped", "early_stopped"]
    step: Count
    first_loss: float | None
    final_loss: float | None
    best_validation_loss: float | None
    best_validation_step: int | None
    tokens_per_second: float
    trained_tokens: Count
    peak_memory: int
    seconds: float
    adapter_path: str
    since_step: int | None = None
    baseline_loss: float | None = None
    ends_round: bool = False


class RunFailed(Event, frozen=True, kw_only=True):
    """The run ended in an error: one sentence, and the log with the details.

    `cause` is None for other errors and in older journals. `learning_rate` is the recipe's as last
    changed manually; None if the run failed before training. `traceback` says whether the log has
    one, as of an error that nobody expected.
    """

    message: str
    step: Count
    log: str
    learning_rate: float | None = None
    cause: FailureCause | None = None
    traceback: bool = False


AnyEvent = (
    RunStarted
    | BackendReady
    | ProgressMade
    | ModelLoaded
    | OperationsChosen
    | DataPrepared
    | StepFinished
    | TrainReported
    | RanksJoined
    | RanksReported
    | ValidationFinished
    | CheckpointSaved
    | LearningRateChanged
    | RunPaused
    | RunContinued
    | ChatAnswered
    | SampleAnswered
    | WorkSkipped
    | SleepPrevented
    | MachineSampled
    | Warned
    | RunFinished
    | RunFailed
)

STATE_CHANGES = (
    RunStarted,
    ValidationFinished,
    CheckpointSaved,
    RunPaused,
    RunContinued,
    RunFinished,
    RunFailed,
)
"""Events that are flushed to disk."""

_decoder: msgspec.json.Decoder[AnyEvent] = msgspec.json.Decoder(AnyEvent)


def encode(event: AnyEvent) -> bytes:
    """The event as one JSON line, without its newline."""
    return path_json.encode(event)


def decode(line: bytes) -> AnyEvent | None:
    """The event of a journal line; None for a torn line or an event from a newer version."""
    try:
        return path_json.decode(line, _decoder)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
