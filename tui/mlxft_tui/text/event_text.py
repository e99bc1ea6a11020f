"""A run's events as the lines of a log."""

from __future__ import annotations

from typing import Final

from mlxft.runs import events as ev
from mlxft.runs.events import AnyEvent
from mlxft.text.figures import duration, gigabytes, improvement, learning_rate, rate, shown_path
from mlxft.text.printable import printable_line


def line(event: AnyEvent) -> str | None:
    """The event in one line of plain text; None for events too frequent for a log."""
    text = _text(event)
    return None if text is None else printable_line(text)


def _text(event: AnyEvent) -> str | None:
    match event:
        case ev.RunStarted():
            start = f" from step {event.start_step}" if event.start_step else ""
            return f"run {event.run} starts{start}: {event.iters} steps, engine {event.pid}"
        case ev.BackendReady():
            return _backend(event)
        case ev.ModelLoaded():
            return (
                f"model {event.model_type}, {_short(event.total_parameters)} parameters, "
                f"{_short(event.trainable_parameters)} trained, {_quantization(event)}, "
                f"{event.seconds:.1f} s"
            )
        case ev.OperationsChosen():
            return " ".join(event.reasons)
        case ev.RanksJoined():
            return _ranks(event)
        case ev.DataPrepared():
            return _data(event)
        case ev.TrainReported():
            return _report(event)
        case ev.ValidationFinished():
            note = "  best" if event.best else "" if event.step else "  before training"
            said = f"  {preference(event.preference)}" if event.preference else ""
            what = f"step {event.step}  validation {event.loss:.3f}"
            return f"{what}{said}{note}  {event.seconds:.1f} s"
        case ev.CheckpointSaved():
            return f"step {event.step}  saved {event.path}{'  best' if event.best else ''}"
        case ev.LearningRateChanged():
            return f"step {event.step}  lr set to {learning_rate(event.learning_rate)}"
        case ev.RunPaused():
            return f"step {event.step}  paused"
        case ev.RunContinued():
            return f"step {event.step}  continues after {duration(event.paused_seconds)}"
        case ev.ChatAnswered():
            return f"step {event.step}  answered {event.tokens} tokens in {event.seconds:.1f} s"
        case ev.SampleAnswered():
            return f"step {event.step}  sample: {event.text.strip()}"
        case ev.WorkSkipped():
            what = "sample" if event.stage == "sampling" else "validation before training"
            return f"step {event.step}  {what} skipped"
        case ev.SleepPrevented():
            return f"sleep is prevented while the run is live ({event.by})"
        case ev.Warned():
            return f"warning: {event.message}"
        case ev.RunFinished():
            return f"{ending(event)}  {shown_path(event.adapter_path)}"
        case ev.RunFailed():
            return f"failed at step {event.step}: {event.message}"
        case _:
            return None


def preference(found: ev.Preference) -> str:
    """What a batch, or several, say of a preference, in a few words."""
    margin = "" if found.margin is None else f", margin {found.margin:.2f}"
    return f"accuracy {found.accuracy:.1%}{margin}"


def _backend(event: ev.BackendReady) -> str:
    blas = f", {event.blas}" if event.blas else ""
    speed = f", {event.gflops:.0f} GFLOP/s" if event.gflops is not None else ""
    return f"MLX on {event.device} ({event.kind}{blas}{speed})"


def _ranks(event: ev.RanksJoined) -> str:
    link = event.link
    return (
        f"{len(event.hosts)} processes over {event.backend}: {link.latency * 1000:.1f} ms and "
        f"{gigabytes(link.bandwidth)} GB/s between two, a step's sum of "
        f"{event.message / 1e6:.1f} MB takes {event.seconds * 1000:.0f} ms"
    )


def _data(event: ev.DataPrepared) -> str:
    skipped = f", {event.untrainable} skipped" if event.untrainable else ""
    cut = f", {event.truncated} truncated" if event.truncated else ""
    more = event.trained_as > event.train_records
    trained_as = f" trained as {event.trained_as}" if more else ""
    return (
        f"data {event.train_records}{trained_as} + {event.valid_records} records, "
        f"{_short(event.trained_tokens)} of {_short(event.tokens)} tokens trained{cut}{skipped}"
    )


def _report(event: ev.TrainReported) -> str:
    return (
        f"step {event.step}  loss {event.loss:.3f}  lr {learning_rate(event.learning_rate)}  "
        f"{rate(event.tokens_per_second)} tok/s  peak {gigabytes(event.peak_memory)} GB"
    )


_ENDINGS: Final = {
    "completed": "finished",
    "early_stopped": "stopped early",
    "stopped": "stopped",
}


def ending(event: ev.RunFinished) -> str:
    """How a run ended, without where its adapter is."""
    how = "sweep's round ended" if event.ends_round else _ENDINGS[event.reason]
    parts = [f"{how} at step {event.step}"]
    if event.first_loss is not None and event.final_loss is not None:
        parts.append(f"loss {event.first_loss:.3f} → {event.final_loss:.3f} (last report)")
    if event.best_validation_loss is not None:
        parts.append(_validation(event, event.best_validation_loss))
    if event.trained_tokens:
        parts.append(f"{rate(event.tokens_per_second)} tok/s")
        parts.append(f"peak {gigabytes(event.peak_memory)} GB")
    since = f" since step {event.since_step}" if event.since_step else ""
    return "  ".join([*parts, f"{duration(event.seconds)}{since}"])


def _validation(event: ev.RunFinished, best: float) -> str:
    at = f"{best:.3f} at step {event.best_validation_step}"
    if event.baseline_loss is None:
        return f"best validation {at}"
    change = improvement(event.baseline_loss, best)
    return f"validation {event.baseline_loss:.3f} → {at} ({change})"


def _short(number: int) -> str:
    """A count in three or four characters: 940, 12.3k, 135M, 7.2B."""
    value = float(number)
    for unit in ("", "k", "M"):
        if value < 999.5:
            return f"{value:.0f}{unit}" if not unit or value >= 99.95 else f"{value:.1f}{unit}"
        value /= 1000
    return f"{value:.1f}B"


def _quantization(event: ev.ModelLoaded) -> str:
    return f"not quantized ({event.dtype})" if event.quantization == "none" else event.quantization
