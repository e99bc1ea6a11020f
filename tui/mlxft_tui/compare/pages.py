"""What the comparison shows as text: recipes, scores and samples; pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import zip_longest
from typing import Final

from textual.content import Content

from mlxft import recipe as recipes
from mlxft.comparison.differences import NAMES
from mlxft.comparison.evaluations import KeptEvaluation
from mlxft.conversation.scores import Interval
from mlxft.recipe import PARAMETERS
from mlxft.recipe.value_text import value_text
from mlxft.runs.events import RunFinished, SampleAnswered
from mlxft.runs.followed import FollowedRun
from mlxft.runs.view import tokens_per_second
from mlxft.text import figures
from mlxft.text.printable import printable, printable_line
from mlxft_tui.compare.legend import run_label, run_style
from mlxft_tui.text.cells import shortened
from mlxft_tui.text.theme import FAINT, MUTED, STATE_LOOKS

KEY_CELLS: Final = 22
"""Of the column of parameters."""
LEAST_CELLS, MOST_CELLS = 12, 28
"""Of a run's column."""
GAP: Final = "  "

NO_DIFFERENCE: Final = "The recipes are the same."
NO_SAMPLE: Final = (
    "No run has answered a sample prompt; set sample_prompt and sample_every before one."
)


def shown_columns(runs: int, width: int) -> tuple[int, int]:
    """How many runs' columns fit, and their width."""
    room = width - KEY_CELLS
    count = max(1, min(runs, room // (LEAST_CELLS + len(GAP))))
    return count, max(4, min(MOST_CELLS, room // count - len(GAP)))


def recipes_text(
    runs: Sequence[FollowedRun], names: Sequence[str], width: int, first: int = 0
) -> Content:
    """A table of the parameters in which the recipes differ, from the column `first` on.

    Values that the first run has too are faint.
    """
    count, cells = shown_columns(len(runs), width)
    shown = list(enumerate(runs))[first : first + count]
    rows: list[Content] = []
    for parameter in PARAMETERS.values():
        values = [recipes.get(run.recipe, parameter.key) for run in runs]
        if parameter.key not in NAMES and any(value != values[0] for value in values):
            texts = [
                Content.styled(
                    shortened(figures.shown_path(value_text(parameter, values[number])), cells),
                    FAINT if number and values[number] == values[0] else "$foreground",
                )
                for number, _ in shown
            ]
            rows.append(_row(Content(parameter.key), texts, cells))
    if not rows:
        return Content(NO_DIFFERENCE if len(runs) > 1 else "One run has nothing to differ from.")
    labels = [run_label(number, names[number], cells) for number, _ in shown]
    more = len(runs) - first - len(shown)
    note = f"{more} more run{'s' if more > 1 else ''} →" if more > 0 else ""
    return Content("\n").join([_row(Content.styled(note, MUTED), labels, cells), *rows])


def _row(head: Content, cells: Iterable[Content], width: int) -> Content:
    columns = [each.truncate(width, ellipsis=True, pad=True) for each in cells]
    return Content(GAP).join(
        [head.truncate(KEY_CELLS - len(GAP), ellipsis=True, pad=True), *columns]
    )


SCORES: Final = (
    ("best val", 12),
    ("change", 7),
    ("loss", 6),
    ("state", 10),
    ("step", 11),
    ("before", 6),
    ("tok/s", 6),
    ("peak", 8),
    ("time", 8),
)
"""The columns of the scores with their widths, the most important ones first."""


def scores_text(
    runs: Sequence[FollowedRun],
    names: Sequence[str],
    evaluations: Sequence[Sequence[KeptEvaluation]],
    width: int,
) -> Content:
    """A line for each run: its losses, speed, memory and time, then what evaluations said.

    The columns that don't fit beside the others stand in a table below.
    """
    lines: list[Content] = []
    at = 0
    while at < len(SCORES):
        count = len(SCORES) - at
        while count > 1 and _width(at, count) > width - LEAST_CELLS - len(GAP):
            count -= 1
        lines += [Content("")] if at else []
        lines += _figures(runs, names, at, count, width)
        at += count
    lines += _evaluations(names, evaluations, width)
    return Content("\n").join(lines)


def _figures(
    runs: Sequence[FollowedRun], names: Sequence[str], first: int, count: int, width: int
) -> Iterable[Content]:
    """A line of titles, and one for each run, with some of the columns."""
    shown = slice(first, first + count)
    name_cells = max(LEAST_CELLS, min(48, width - _width(first, count)))
    titles = [Content.styled(_aligned(title, title, size), MUTED) for title, size in SCORES]
    yield _line(Content("").pad_right(name_cells), titles[shown])
    for number, run in enumerate(runs):
        name = run_label(number, names[number], name_cells)
        cells = zip(SCORES, _scores(run), strict=True)
        texts = [
            Content.styled(
                _aligned(title, text, size),
                STATE_LOOKS[run.state].style if title == "state" else "$foreground",
            )
            for (title, size), text in cells
        ]
        yield _line(name, texts[shown])


EVALUATED: Final = (("records", 7), ("loss", 6), ("exact match", 18), ("token F1", 18))
"""The columns of the evaluations with their widths."""


def _evaluations(
    names: Sequence[str], evaluations: Sequence[Sequence[KeptEvaluation]], width: int
) -> Iterable[Content]:
    """The latest evaluation of each run on the same records, with 95% intervals."""
    room = width - sum(size + len(GAP) for _, size in EVALUATED)
    cells = max(LEAST_CELLS, min(48, room))
    sets = dict.fromkeys((each.split, each.data) for found in evaluations for each in found)
    for split, data in sets:
        heading = printable_line(f"{split} of {figures.shown_path(data)}, with 95% intervals")
        titles = [Content.styled(title.rjust(size), MUTED) for title, size in EVALUATED]
        yield Content.assemble("\n", (heading, MUTED))
        yield _line(Content("").pad_right(cells), titles)
        for number, found in enumerate(evaluations):
            for each in [each for each in found if (each.split, each.data) == (split, data)][-1:]:
                name = run_label(number, names[number], cells)
                texts = [
                    str(each.records),
                    figures.loss(each.loss),
                    _interval(each.exact_match),
                    _interval(each.token_f1),
                ]
                shown = [
                    Content(text.rjust(size))
                    for text, (_, size) in zip(texts, EVALUATED, strict=True)
                ]
                yield _line(name, shown)


def _interval(found: Interval | None) -> str:
    """A share with its 95% interval."""
    if found is None:
        return figures.NONE
    return f"{found.mean:.1%} {100 * found.low:.1f}–{100 * found.high:.1f}"


def _width(first: int, count: int) -> int:
    return sum(size + len(GAP) for _, size in SCORES[first : first + count])


def _aligned(title: str, text: str, size: int) -> str:
    return text.ljust(size) if title == "state" else text.rjust(size)


def _line(name: Content, cells: Sequence[Content]) -> Content:
    return Content(GAP).join([name, *cells])


def _scores(run: FollowedRun) -> list[str]:
    view, look = run.view, STATE_LOOKS[run.state]
    ending = view.ending if isinstance(view.ending, RunFinished) else None
    before, best = view.baseline, view.best_validation
    peak = (ending.peak_memory if ending else view.peak_memory) or None
    seconds = ending.seconds if ending else sum(view.steps.seconds) or None
    return [
        f"{best.loss:.3f} @{best.step}" if best else figures.NONE,
        _change(before.loss, best.loss) if before and best else figures.NONE,
        figures.loss(view.loss),
        f"{look.symbol} {look.word.lower()}",
        f"{view.step}/{view.iters}" if view.iters else figures.NONE,
        figures.loss(before.loss) if before else figures.NONE,
        figures.rate(ending.tokens_per_second if ending else tokens_per_second(view)),
        f"{figures.gigabytes(peak)} GB" if peak else figures.NONE,
        figures.duration(seconds),
    ]


def _change(before: float, after: float) -> str:
    return f"{after / before - 1:+.1%}".replace("-", "−") if before else figures.NONE


def samples_text(runs: Sequence[FollowedRun]) -> Content:
    """The answers to each sample prompt, those of the same step together."""
    answers: dict[str, dict[int, dict[int, SampleAnswered]]] = {}
    for number, run in enumerate(runs):
        for each in run.view.samples:
            answers.setdefault(each.prompt, {}).setdefault(each.step, {})[number] = each
    if not answers:
        return Content(NO_SAMPLE)
    lines: list[Content] = []
    for prompt, steps in answers.items():
        lines.append(Content.styled(printable_line(prompt), "bold"))
        for step in sorted(steps):
            lines.append(Content.styled(f"step {step}", MUTED))
            for number, each in sorted(steps[step].items()):
                lines += _sample(number, each)
        lines.append(Content(""))
    return Content("\n").join(lines)


def _sample(number: int, sample: SampleAnswered) -> Iterable[Content]:
    sign = (f"  {number + 1:<3}", run_style(number))
    texts = printable(sample.text).strip().splitlines() or ["(nothing)"]
    for mark, text in zip_longest([sign], texts, fillvalue=("     ", MUTED)):
        yield Content.assemble(mark, text if isinstance(text, str) else "")
