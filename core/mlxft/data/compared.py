"""Which answers of a record a loss compares: a pair, or one that is labelled good or bad."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from mlxft.data.faults import Problem
from mlxft.data.formats import Fields, conversation
from mlxft.data.preferences import CHOSEN_SIDE
from mlxft.data.record_checks import problems
from mlxft.data.record_warnings import DISLIKED, LIKED_ANSWERS, liked
from mlxft.data.validation import RecordLine
from mlxft.errors import RecipeError
from mlxft.recipe import PAIRED, Recipe, TrainingLoss


def suited(formats: Mapping[str, int], loss: TrainingLoss) -> int:
    """How many examples records in these formats make for a loss; for sft every record is one."""
    pairs = formats.get(CHOSEN_SIDE, 0)
    if loss in PAIRED:
        return pairs
    # KTO takes a pair apart.
    return 2 * pairs + formats.get(LIKED_ANSWERS, 0) if loss == "kto" else sum(formats.values())


def format_name(name: str, loss: TrainingLoss) -> str:
    """A format's name; without the side that sft trains where the loss takes both."""
    whole = loss == "kto" and name == LIKED_ANSWERS
    whole = whole or (loss != "sft" and name == CHOSEN_SIDE)
    return name.partition(",")[0] if whole else name


def unsuited(formats: Mapping[str, int], loss: TrainingLoss) -> Problem | None:
    """Why records in these formats don't suit a loss, and how many; None if all do."""
    labelled, pairs = formats.get(LIKED_ANSWERS, 0), formats.get(CHOSEN_SIDE, 0)
    total = sum(formats.values())
    missing = total - pairs - (labelled if loss == "kto" else 0)
    if loss == "sft" or not missing:
        return None
    number = f"none of {total} records" if missing == total else f"{missing} of {total} records"
    problem = _NO_LABEL if loss == "kto" else _NO_LABELS if labelled == missing else _NO_PAIR
    what = {
        _NO_LABEL: "a label that says whether its answer is good",
        _NO_LABELS: "a rejected answer; they have labels",
        _NO_PAIR: "a rejected answer",
    }[problem]
    verb = "has" if missing == total else "lack"
    return Problem("no answer", f"with loss {loss}, {number} {verb} {what}", problem.remedy)


def refuse_combination(recipe: Recipe) -> None:
    """Raise `RecipeError` for settings that a loss of answers to compare can't be trained with."""
    if recipe.loss == "sft":
        return
    if recipe.overlong == "split":
        raise RecipeError(
            f"overlong is split, but with loss {recipe.loss} an answer can't be trained in pieces; "
            "set overlong to truncate or drop."
        )
    if recipe.loss == "kto" and recipe.packing:
        raise RecipeError(
            "packing is true, but with loss kto the answers that its KL divergence is estimated "
            "from have rows of their own; set packing to false."
        )
    if recipe.loss == "kto" and recipe.batch_size == 1:
        raise RecipeError(
            "batch_size is 1, but loss kto estimates the KL divergence from the other answers of a "
            "batch; set batch_size to 2 or more, 8 if memory allows."
        )


@dataclass(frozen=True)
class Answered:
    """A record with an answer in the format that is trained.

    `rejected` is the same with the rejected answer, if the loss compares them; `is_good` whether an
    answer that stands alone is one to learn.
    """

    fields: dict[str, Any]
    rejected: dict[str, Any] | None = None
    is_good: bool = True


def answered(line: RecordLine, loss: TrainingLoss) -> tuple[Answered, ...] | Problem:
    """What a loss takes from a line; nothing of a line that is faulty or excluded.

    A `Problem` says why a record that others could train doesn't suit this loss.
    """
    if loss == "sft":
        return () if line.trained is None else (Answered(line.trained),)
    if line.fields is None or line.faults:
        return ()
    if loss == "kto":
        return _labelled(line, line.fields)
    if line.excluded is not None and line.excluded != DISLIKED:
        return ()
    if line.rejected is None:
        return _NO_LABELS if liked(line.fields) is not None else _NO_PAIR
    faulty = _rejected_problem(line.fields, line.rejected)
    return faulty or (Answered(line.fields, line.rejected),)


def _labelled(line: RecordLine, fields: dict[str, Any]) -> tuple[Answered, ...] | Problem:
    if line.rejected is not None:
        if conversation(fields) is None:
            return _NO_PROMPT
        faulty = _rejected_problem(fields, line.rejected)
        return faulty or (Answered(fields), Answered(line.rejected, is_good=False))
    is_good = liked(fields)
    if is_good is None:
        return _NO_LABEL
    if line.excluded is not None and line.excluded != DISLIKED:
        return ()
    return (Answered(fields, is_good=is_good),)


def _rejected_problem(chosen: Fields, rejected: Fields) -> Problem | None:
    """What is wrong with the rejected answer of a valid record, if anything."""
    found = next(iter(problems(rejected)), None)
    if found is not None:
        return replace(found, problem=f"with the rejected answer, {found.problem}")
    if _prompt(chosen) != _prompt(rejected):
        return _OTHER_PROMPT
    same = conversation(chosen) == conversation(rejected)
    return _SAME_ANSWER if same and chosen.get("text") == rejected.get("text") else None


def _prompt(fields: Fields) -> list[Any]:
    """What stands before the last answer."""
    messages = conversation(fields) or []
    return [_without_flags(each) for each in messages[:-1]]


def _without_flags(message: Mapping[str, Any]) -> dict[str, Any]:
    return {key: message.get(key) for key in ("role", "content", "tool_calls")}


_PAIR_LAYOUTS: Final = "write prompt, chosen and rejected"

_NO_PAIR: Final = Problem(
    "no answer",
    "the record has no rejected answer beside its own, which this loss compares",
    f"{_PAIR_LAYOUTS}, or set loss to sft",
)
_NO_LABELS: Final = Problem(
    "no answer",
    "the record has one answer with a label, but this loss compares two",
    "set loss to kto",
)
_NO_LABEL: Final = Problem(
    "no answer",
    "the record says neither that its answer is good nor that it is bad",
    f"add label: true or false, {_PAIR_LAYOUTS}, or set loss to sft",
)
_NO_PROMPT: Final = Problem(
    "no prompt", "the answers have no prompt, which kto needs", "add it as prompt"
)
_OTHER_PROMPT: Final = Problem(
    "roles",
    "the chosen and the rejected conversation differ before their last answer",
    "cut both at the first answer that differs",
)
_SAME_ANSWER: Final = Problem(
    "no answer", "the chosen and the rejected answer are the same", "remove the line"
)
