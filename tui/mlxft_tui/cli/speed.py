"""`mlxft-tui speed`: tokens per second of prompt processing and generation."""

from __future__ import annotations

import sys

from mlxft.conversation.benchmark import SpeedRun, Spread, spread, undisturbed
from mlxft.engine.protocol import AnyReply, MeasureSpeed, ModelOpened, OpenModel, SpeedMeasured
from mlxft.text import figures, path_json
from mlxft_tui.cli.service import run_on_service
from mlxft_tui.session import Session


def speed(session: Session, opening: OpenModel, command: MeasureSpeed, *, as_json: bool) -> int:
    """Print each run, then mean and standard deviation, for prompt and generation."""
    runs: list[SpeedRun] = []

    def begin(_: ModelOpened) -> MeasureSpeed:
        print(f"{_counted(command.runs)} of {_length(command)}, after a warm-up", file=sys.stderr)
        return command

    def take(reply: AnyReply) -> None:
        if isinstance(reply, SpeedMeasured):
            runs.append(reply.run)
            line = f"run {len(runs)}  {_line(reply.run)}"
            print(line, file=sys.stderr if as_json else sys.stdout, flush=True)
            if len(runs) == 1 < command.runs:
                print(_remaining(command, reply.run), file=sys.stderr)

    status = run_on_service(session, opening, begin, take, in_lines=True)
    if runs and as_json:
        print(path_json.encode(_summary(command, runs)).decode())
    elif runs:
        print(_table(command, runs))
    return status


def _line(run: SpeedRun) -> str:
    disturbed = f"  disturbed: others used {run.others:.0%} of the processors; repeated"
    return (
        f"prompt {run.prompt_speed:8.1f} tok/s  generation {run.generation_speed:7.1f} tok/s  "
        f"peak {run.peak_memory / 1e9:.2f} GB{disturbed if run.disturbed else ''}"
    )


def _remaining(command: MeasureSpeed, run: SpeedRun) -> str:
    """The time that the other runs take at the first one's speed."""
    seconds = command.prompt_tokens / run.prompt_speed
    seconds += command.generation_tokens / run.generation_speed
    others = command.runs - 1
    return f"about {figures.duration(others * seconds)} for the other {_counted(others)}"


def _counted(runs: int) -> str:
    return "1 run" if runs == 1 else f"{runs} runs"


def _length(command: MeasureSpeed) -> str:
    return f"{command.prompt_tokens} prompt and {command.generation_tokens} generated tokens"


def _table(command: MeasureSpeed, runs: list[SpeedRun]) -> str:
    counted = undisturbed(runs)
    prompt, generation = _spreads(counted)
    if counted[0].disturbed:
        note = (
            "\nEvery run was disturbed by other processes; close them and measure again for the "
            "model's own speed."
        )
    else:
        left_out = len(runs) - len(counted)
        note = f"\n{_counted(left_out)} disturbed by other processes left out" if left_out else ""
    return (
        f"{_counted(len(counted))} of {_length(command)}:\n"
        f"prompt      {prompt.mean:8.1f} ± {prompt.deviation:.1f} tok/s\n"
        f"generation  {generation.mean:8.1f} ± {generation.deviation:.1f} tok/s{note}"
    )


def _summary(command: MeasureSpeed, runs: list[SpeedRun]) -> dict[str, object]:
    counted = undisturbed(runs)
    prompt, generation = _spreads(counted)
    return {
        "disturbed": counted[0].disturbed,
        "prompt_tokens": command.prompt_tokens,
        "generation_tokens": command.generation_tokens,
        "prompt": prompt,
        "generation": generation,
        "runs": runs,
    }


def _spreads(runs: list[SpeedRun]) -> tuple[Spread, Spread]:
    return (
        spread([run.prompt_speed for run in runs]),
        spread([run.generation_speed for run in runs]),
    )
