"""Events as log lines."""

from __future__ import annotations

import msgspec
import pytest

from mlxft.runs import events as ev
from mlxft.telemetry.sample import Sample
from mlxft_tui.text import event_text
from support.journal import finished

REPORT = ev.TrainReported(
    step=30,
    loss=1.2344,
    learning_rate=2e-4,
    steps_per_second=1.5,
    tokens_per_second=161.7,
    trained_tokens=1000,
    peak_memory=1_900_000_000,
    active_memory=1,
    cache_memory=1,
)

LINES = [
    (REPORT, "step 30  loss 1.234  lr 2e-4  162 tok/s  peak 1.90 GB"),
    (
        ev.ValidationFinished(step=40, loss=1.31, tokens=5, seconds=2.04, best=True),
        "step 40  validation 1.310  best  2.0 s",
    ),
    (
        ev.CheckpointSaved(step=40, path="checkpoints/0000040"),
        "step 40  saved checkpoints/0000040",
    ),
    (ev.LearningRateChanged(step=7, learning_rate=1.5e-5), "step 7  lr set to 1.5e-5"),
    (ev.RunPaused(step=7), "step 7  paused"),
    (ev.RunContinued(step=7, paused_seconds=75), "step 7  continues after 1:15"),
    (ev.Warned(message="Slow."), "warning: Slow."),
    (ev.RunFailed(message="No.", step=3, log="x"), "failed at step 3: No."),
    (
        ev.ModelLoaded(
            model="m",
            model_type="llama",
            total_parameters=134_515_008,
            trainable_parameters=325_632,
            quantization="4-bit",
            dtype="float32",
            seconds=1.2,
        ),
        "model llama, 135M parameters, 326k trained, 4-bit, 1.2 s",
    ),
]


class TestLine:
    @pytest.mark.parametrize(("event", "line"), LINES)
    def test_describes_the_event(self, event: ev.AnyEvent, line: str) -> None:
        assert event_text.line(event) == line

    def test_a_run_without_steps_has_no_losses(self) -> None:
        ended = ev.RunFinished(
            reason="early_stopped",
            step=0,
            first_loss=None,
            final_loss=None,
            best_validation_loss=None,
            best_validation_step=None,
            tokens_per_second=0.0,
            trained_tokens=0,
            peak_memory=0,
            seconds=2.0,
            adapter_path="adapters/r",
        )
        assert event_text.line(ended) == "stopped early at step 0  2 s  adapters/r"

    def test_a_summary_since_a_resume_says_so(self) -> None:
        line = event_text.line(msgspec.structs.replace(finished(), since_step=12))
        assert line is not None
        assert "6:52 since step 12" in line

    def test_frequent_events_have_none(self) -> None:
        step = ev.StepFinished(step=1, loss=1, tokens=1, seconds=1, learning_rate=1)
        for event in (
            step,
            ev.MachineSampled(sample=Sample(time=0)),
            ev.ProgressMade(stage="loading", done=0),
        ):
            assert event_text.line(event) is None

    def test_untrusted_text_is_printable_on_one_line(self) -> None:
        line = event_text.line(ev.Warned(message="a\nb\x1b[2Jc"))
        assert line is not None
        assert line.isprintable()
