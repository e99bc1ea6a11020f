"""The columns that the table of runs can have: the declared ones, and every recipe parameter."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

from mlxft import recipe as recipes
from mlxft.comparison.table import RunRow
from mlxft.errors import RecipeError, RunError
from mlxft.recipe import PARAMETERS, Parameter
from mlxft.recipe.value_text import value_text
from mlxft.text import figures
from mlxft.text.printable import printable_line

Kind = Literal[
    "text",
    "names",
    "flag",
    "count",
    "loss",
    "share",
    "rate",
    "bytes",
    "duration",
    "moment",
    "parameter",
]


RECIPE: Final = "recipe."
"""Begins the id of a parameter whose name is that of a figure."""


@dataclass(frozen=True, kw_only=True)
class Column:
    """A column: its value of a row, and how that is shown, compared and typed in a filter."""

    id: str
    title: str
    kind: Kind
    value: Callable[[RunRow], Any]
    """None for what isn't known. Shares from 0 to 1, memory in bytes, moments in seconds since
    1970."""
    help: str
    parameter: Parameter | None = None
    """Of a recipe's value."""
    shown: Callable[[RunRow], str] | None = None
    """Its text, where that says more than the value."""

    @property
    def is_figure(self) -> bool:
        """Whether it is shown at the right of its column."""
        if self.parameter is not None:
            return self.parameter.kind in ("int", "float")
        return self.kind not in ("text", "names", "flag")

    def text(self, row: RunRow, now: float) -> str:
        """The value for people; moments as an age."""
        value = self.value(row)
        if self.shown is not None and value is not None:
            return self.shown(row)
        if self.parameter is not None:
            return printable_line(value_text(self.parameter, value))
        if value is None or value in ("", ()):
            return "" if self.kind in ("text", "names", "flag") else figures.NONE
        return _text(self.kind, value, now)


def _text(kind: Kind, value: Any, now: float) -> str:
    match kind:
        case "names":
            return printable_line(", ".join(value))
        case "flag":
            return "yes" if value else ""
        case "count":
            return str(value)
        case "loss":
            return figures.loss(value)
        case "share":
            return figures.share(value)
        case "rate":
            return figures.rate(value)
        case "bytes":
            return f"{figures.gigabytes(value)} GB"
        case "duration":
            return figures.duration(value)
        case "moment":
            return figures.age(now - value)
        case _:
            return printable_line(str(value))


def _improvement(row: RunRow) -> float | None:
    before, best = row.summary.baseline_loss, row.summary.best_validation_loss
    return 1 - best / before if before and best is not None else None


def _accuracy(row: RunRow) -> float | None:
    found = row.summary.validation_preference
    return found.accuracy if found else None


def _of_evaluation(name: Literal["exact_match", "token_f1"]) -> Callable[[RunRow], float | None]:
    def value(row: RunRow) -> float | None:
        found = getattr(row.evaluation, name) if row.evaluation else None
        return found.mean if found else None

    return value


def _step(row: RunRow) -> str:
    said = row.summary
    return f"{said.step}/{said.iters}" if said.iters else figures.NONE


def _best_validation(row: RunRow) -> str:
    said = row.summary
    return f"{figures.loss(said.best_validation_loss)} @{said.best_validation_step}"


def _column(
    name: str, title: str, kind: Kind, purpose: str, value: Callable[[RunRow], object]
) -> Column:
    """A column of what a row knows."""
    return Column(id=name, title=title, kind=kind, value=value, help=purpose)


def _summary(
    name: str,
    title: str,
    kind: Kind,
    purpose: str,
    shown: Callable[[RunRow], str] | None = None,
) -> Column:
    """The column of a summary's field."""
    return Column(
        id=name,
        title=title,
        kind=kind,
        help=purpose,
        value=lambda row: getattr(row.summary, name),
        shown=shown,
    )


def _recipe(key: str) -> Column:
    """The column of a parameter."""
    parameter = PARAMETERS[key]
    return Column(
        id=f"{RECIPE}{key}" if key in _IDS else key,
        title=parameter.name,
        kind="parameter",
        value=lambda row: row.value(key),
        help=parameter.declared.help,
        parameter=parameter,
    )


_DECLARED: Final = (
    _column("name", "name", "text", "The run's name.", lambda row: row.title),
    _column("run", "run", "text", "Its folder.", lambda row: row.run),
    _column("state", "state", "text", "Its state.", lambda row: row.state),
    _column("live", "live", "flag", "Whether an engine runs it.", lambda row: row.live),
    _summary("step", "step", "count", "Steps trained.", _step),
    _summary("loss", "loss", "loss", "Training loss of the last report."),
    _summary("validation_loss", "val", "loss", "The last validation loss."),
    _summary(
        "best_validation_loss", "best val", "loss", "The lowest validation loss.", _best_validation
    ),
    _summary("best_validation_step", "best step", "count", "The step of the lowest one."),
    _summary("baseline_loss", "before", "loss", "Validation loss before training."),
    _column(
        "improvement",
        "improved",
        "share",
        "How far the lowest is below that before training.",
        _improvement,
    ),
    _column(
        "accuracy",
        "accuracy",
        "share",
        "Share of preferences that the last validation got right.",
        _accuracy,
    ),
    _column(
        "exact_match",
        "exact",
        "share",
        "Exact match of the last evaluation.",
        _of_evaluation("exact_match"),
    ),
    _column(
        "token_f1", "F1", "share", "Token F1 of the last evaluation.", _of_evaluation("token_f1")
    ),
    _summary("tokens_per_second", "tok/s", "rate", "Trained tokens per second."),
    _summary("peak_memory", "peak", "bytes", "MLX's peak memory."),
    _summary("seconds", "time", "duration", "Seconds of a run that has ended."),
    _summary("started", "started", "moment", "When it was started first."),
    _summary("last_time", "age", "moment", "When it last wrote something."),
    _column("notes", "notes", "text", "What you wrote about it.", lambda row: row.labels.notes),
    _column("tags", "tags", "names", "Its tags.", lambda row: row.labels.tags),
    _column(
        "archived",
        "archived",
        "flag",
        "Whether lists leave it out.",
        lambda row: row.labels.archived,
    ),
    _column(
        "pinned", "pinned", "flag", "Whether lists have it first.", lambda row: row.labels.pinned
    ),
    _summary("host", "host", "text", "The machine it ran on."),
    _summary("device", "device", "text", "The device it ran on."),
    _summary("trainable_parameters", "trainable", "count", "Trained parameters."),
    _summary("train_records", "records", "count", "Training records."),
    _column(
        "fingerprint",
        "data id",
        "text",
        "The first digits of the training file's SHA-256.",
        lambda row: row.summary.fingerprints.get("train", ""),
    ),
    _summary("reason", "reason", "text", "Why it has failed."),
)

_IDS: Final = frozenset(each.id for each in _DECLARED)

COLUMNS: Final[dict[str, Column]] = {
    each.id: each for each in (*_DECLARED, *(_recipe(key) for key in PARAMETERS))
}
"""Every column by its id, the parameters last. A parameter with the name of a figure, as loss, is
``recipe.loss``."""

_BY_TITLE: Final = {each.title: each for each in _DECLARED}

DEFAULT_COLUMNS: Final = (
    *("name", "state", "step", "loss", "best_validation_loss", "improvement"),
    *("tokens_per_second", "last_time"),
)


def columns_help() -> str:
    """The declared columns with what they say, for a command's help."""
    width = max(map(len, _IDS))
    listed = (f"  {each.id:<{width}}  {each.help}" for each in _DECLARED)
    return "\n".join(["columns:", *listed, "  and every recipe parameter, as learning_rate", ""])


def find_column(name: str) -> Column:
    """A column by its id, the last part of a parameter's key where that is unique, or its title.

    Raises `RunError` naming the closest one.
    """
    if name in COLUMNS:
        return COLUMNS[name]
    try:
        key = recipes.find(name.removeprefix(RECIPE)).key
        return COLUMNS.get(f"{RECIPE}{key}") or COLUMNS[key]
    except RecipeError:
        if name in _BY_TITLE:
            return _BY_TITLE[name]
        close = difflib.get_close_matches(name, COLUMNS, n=1)
        hint = f"did you mean {close[0]}?" if close else "mlxft-tui runs --help lists them."
        raise RunError(f"{name} is not a column; {hint}") from None


def find_columns(text: str) -> tuple[Column, ...]:
    """The columns of a comma-separated list. Raises `RunError`."""
    names = [each.strip() for each in text.split(",") if each.strip()]
    if not names:
        raise RunError("The list of columns is empty; name some, as in name,loss,learning_rate.")
    return tuple(find_column(each) for each in names)


@dataclass(frozen=True)
class Order:
    """A column that rows are sorted by."""

    column: Column
    descending: bool = False


def find_order(text: str) -> tuple[Order, ...]:
    """``best_validation_loss,-started`` as columns to sort by. Raises `RunError`."""
    parts = [each.strip() for each in text.split(",") if each.strip()]
    return tuple(Order(find_column(each.removeprefix("-")), each.startswith("-")) for each in parts)


def sorted_rows(rows: Iterable[RunRow], order: Sequence[Order]) -> list[RunRow]:
    """The rows by these columns, the first of them most important.

    Rows without a value are last either way; rows that are equal stay in their order.
    """
    found = list(rows)
    for each in reversed(order):
        value = each.column.value
        keyed = [(_key(value(row)), row) for row in found]
        known = [pair for pair in keyed if pair[0] is not None]
        known.sort(key=_first, reverse=each.descending)
        found = [row for _, row in known] + [row for key, row in keyed if key is None]
    return found


def _first(pair: tuple[Any, RunRow]) -> Any:
    return pair[0]


def _key(value: Any) -> tuple[int, Any] | None:
    """What a value is sorted by: numbers, then texts whose numbers count as such."""
    if value is None or value in ("", ()) or value != value:
        return None
    if isinstance(value, bool | int | float):
        return 0, value
    text = ", ".join(map(str, value)) if isinstance(value, tuple) else str(value)
    parts = re.split(r"(\d+)", text.casefold())
    return 1, [_part(each) for each in parts]


def _part(text: str) -> tuple[bool, int, str]:
    """A number before a longer one, of any length; int() refuses more than 4,300 digits."""
    digits = text.lstrip("0")
    return (True, len(digits), digits) if text.isdecimal() else (False, 0, text)
