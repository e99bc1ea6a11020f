"""A report of chosen runs: a page of Markdown with SVG plots, and the same figures for programs."""

from __future__ import annotations

import csv
import html
import io
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import accumulate
from typing import Any, Final

from mlxft.comparison import listing
from mlxft.comparison.columns import COLUMNS, find_column
from mlxft.comparison.curves import Curves, Measure
from mlxft.comparison.differences import Difference, circumstances, differences
from mlxft.comparison.evaluations import KeptEvaluation
from mlxft.comparison.table import RunRow
from mlxft.conversation.scores import Interval
from mlxft.runs.smoothing import LOSS_SMOOTHING, smoothed
from mlxft.text import figures, path_json
from mlxft.text.line_plot import Line, line_plot
from mlxft.text.printable import printable_line

PAGE: Final = "report.md"

_FIGURES: Final = tuple(
    find_column(each)
    for each in (
        *("name", "state", "step", "loss", "best_validation_loss", "improvement"),
        *("tokens_per_second", "peak_memory", "seconds", "tags"),
    )
)

MOST_SAMPLED: Final = 6
"""Steps whose samples are shown for each prompt."""


@dataclass(frozen=True)
class Compared:
    """A run of a report."""

    row: RunRow
    curves: Curves


@dataclass(frozen=True)
class _Plot:
    """A plot of the report: its file, what it shows, and its label."""

    file: str
    measure: Measure
    title: str
    label: str
    unit: float = 1.0


PLOTS: Final = (
    _Plot("loss.svg", "loss", f"Training loss, averaged over {LOSS_SMOOTHING} steps", "loss"),
    _Plot("validation.svg", "validation", "Validation loss", "loss"),
    _Plot("learning-rate.svg", "learning_rate", "Learning rate", "learning rate"),
    _Plot("gradient.svg", "gradient", "Gradient norm", "norm"),
    _Plot("memory.svg", "memory", "Peak memory", "GB", 1e9),
)


def report(runs: Sequence[Compared], now: float) -> dict[str, bytes]:
    """The files of a report by name: the page, its plots, and the figures as JSON and CSV."""
    plots = {each.file: svg for each in PLOTS if (svg := plot(each, runs))}
    rows = [each.row for each in runs]
    differing = differences([circumstances(each) for each in rows]) if len(rows) > 1 else ()
    return {
        PAGE: _page(runs, differing, list(plots), now).encode(errors="replace"),
        **{name: svg.encode(errors="replace") for name, svg in plots.items()},
        "report.json": path_json.indented(_mapping(runs, differing)),
        "runs.csv": listing.comma_separated(rows, list(COLUMNS.values())).encode(errors="replace"),
        "steps.csv": _steps(runs).encode(errors="replace"),
    }


def plot(wanted: _Plot, runs: Sequence[Compared]) -> str:
    """A plot over the steps of the runs; empty where none has a point."""
    lines = [
        Line(each.row.title, *_points(each.curves, wanted.measure, wanted.unit)) for each in runs
    ]
    return line_plot(lines, f"{wanted.title} over steps", "step", wanted.label)


def _points(
    curves: Curves, measure: Measure, unit: float
) -> tuple[Sequence[float], Sequence[float]]:
    x, y = curves.points(measure)
    if measure == "loss":
        known = [at for at, value in enumerate(y) if math.isfinite(value)]
        before = [x[at - 1] if at else 0.0 for at in known]
        counts = [x[at] - start for at, start in zip(known, before, strict=True)]
        averages = smoothed([y[at] for at in known], LOSS_SMOOTHING, counts)
        return [x[at] for at in known], averages.tolist()
    return x, y if unit == 1.0 else [each / unit for each in y]


# The page


def _page(
    runs: Sequence[Compared], differing: Sequence[Difference], plots: Sequence[str], now: float
) -> str:
    names = [_cell(each.row.title) for each in runs]
    parts = [f"# {', '.join(names)}", _when(now), _figures(runs, now)]
    for each in runs:
        if each.row.labels.notes:
            parts.append(f"**{_cell(each.row.title)}**: {_cell(each.row.labels.notes)}")
    if len(runs) > 1:
        parts += ["## Differences", _differences(differing, names)]
    if plots:
        parts.append("## Curves")
        parts += [f"![{each.title}]({each.file})" for each in PLOTS if each.file in plots]
    if evaluations := list(_evaluations(runs)):
        head = ["run", "split", "records", "loss", "exact match", "token F1", "gain of exact match"]
        parts += ["## Evaluation", _table(head, evaluations), "Intervals are of 95%."]
    if samples := list(_samples(runs, names)):
        parts += ["## Samples", *samples]
    return "\n\n".join(parts) + "\n"


def _when(now: float) -> str:
    return f"{datetime.fromtimestamp(now):%Y-%m-%d %H:%M}"


def _figures(runs: Sequence[Compared], now: float) -> str:
    rows = [[_cell(each.text(run.row, now)) for each in _FIGURES] for run in runs]
    return _table([each.title for each in _FIGURES], rows)


def _differences(found: Sequence[Difference], names: Sequence[str]) -> str:
    if not found:
        return "None in recipe, data, versions and machine, as far as the journals say."
    rows = [[_cell(each.label), *map(_cell, each.texts)] for each in found]
    return _table(["", *names], rows)


def _evaluations(runs: Sequence[Compared]) -> Iterator[list[str]]:
    for run in runs:
        for each in run.row.evaluations:
            yield [
                _cell(run.row.title),
                each.split,
                str(each.records),
                figures.loss(each.loss),
                share(each.exact_match),
                share(each.token_f1),
                _gain(each),
            ]


def share(interval: Interval | None) -> str:
    """A share with its interval: 62.0% (54.0% to 70.0%)."""
    if interval is None:
        return figures.NONE
    return f"{interval.mean:.1%} ({interval.low:.1%} to {interval.high:.1%})"


def _gain(found: KeptEvaluation) -> str:
    gained = found.exact_match_gain
    if gained is None:
        return figures.NONE
    mean, low, high = (100 * each for each in (gained.mean, gained.low, gained.high))
    return f"{mean:+.1f} points ({low:+.1f} to {high:+.1f}) over {_cell(found.against)}"


def _samples(runs: Sequence[Compared], names: Sequence[str]) -> Iterator[str]:
    """A table for each prompt: the answers of all runs that have one, at the same steps."""
    prompts = dict.fromkeys(each.prompt for run in runs for each in run.curves.samples)
    for prompt in prompts:
        answers = [
            {each.step: each.text for each in run.curves.samples if each.prompt == prompt}
            for run in runs
        ]
        steps = shared_steps(answers)
        if steps:
            asked = [at for at, found in enumerate(answers) if found]
            rows = [
                [str(step), *(_cell(answers[at].get(step, figures.NONE)) for at in asked)]
                for step in steps
            ]
            yield f"> {_cell(prompt)}"
            yield _table(["step", *(names[at] for at in asked)], rows)


def shared_steps(answers: Sequence[dict[int, str]]) -> list[int]:
    """The steps at which all runs that were asked a prompt have answered; evenly chosen."""
    asked = [set(each) for each in answers if each]
    steps = sorted(set.intersection(*asked)) if asked else []
    if len(steps) <= MOST_SAMPLED:
        return steps
    return [steps[round(at * (len(steps) - 1) / (MOST_SAMPLED - 1))] for at in range(MOST_SAMPLED)]


def _cell(text: str) -> str:
    """Text for a cell of a Markdown table, without its own markup."""
    plain = html.escape(printable_line(text), quote=False)
    for sign in "\\|*`[":
        plain = plain.replace(sign, f"\\{sign}")
    return plain


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    every = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(each)} |" for each in every)


# For programs


def _mapping(runs: Sequence[Compared], differing: Sequence[Difference]) -> dict[str, Any]:
    return {
        "runs": [
            {
                **listing.mapping(each.row),
                "validations": each.curves.validations,
                "samples": [
                    {"step": sample.step, "prompt": sample.prompt, "text": sample.text}
                    for sample in each.curves.samples
                ],
            }
            for each in runs
        ],
        "differences": [each.mapping([run.row.run for run in runs]) for each in differing],
    }


def _steps(runs: Sequence[Compared]) -> str:
    """Every point of the curves as CSV."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    head = ("step", "tokens", "seconds", "loss", "learning_rate", "gradient_norm", "peak_memory")
    writer.writerow(["run", *head])
    for run in runs:
        steps = run.curves.steps
        columns = [
            *(steps.step, accumulate(steps.tokens), accumulate(steps.seconds)),
            *(steps.mean_loss, steps.learning_rate, steps.gradient_norm, steps.peak_memory),
        ]
        for values in zip(*columns, strict=True):
            writer.writerow([run.row.run, *(_figure(each) for each in values)])
    return text.getvalue()


def _figure(value: float) -> str:
    return f"{value:.10g}" if math.isfinite(value) else ""
