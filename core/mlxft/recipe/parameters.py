"""Every training parameter, declared once.

The form, ``--set``, ``train --help``, the YAML file, its validation, the mlx_lm command, the rules
of resuming, the keys of the token cache and ``docs/recipe.md`` are all derived from the annotations
here, in `input_parameters`, `training_parameters` and `sections`. Keys are mlx-lm's own, nested
ones dotted (``lora_parameters.rank``).
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable
from typing import Annotated, Final, Literal

from mlxft.errors import RecipeError
from mlxft.hosts import check_hosts
from mlxft.recipe.declaration import (
    Declared,
    Effect,
    Parameter,
    parameters_of,
    refusal,
    sections_of,
)
from mlxft.recipe.trackers import check_report_to
from mlxft.recipe.training_parameters import TrainingParameters

_MOST_CHARACTERS: Final = 100

_RUN_NAME_RULE: Final = (
    f"at most {_MOST_CHARACTERS} letters, digits, dots, hyphens and underscores, the first a "
    "letter or a digit"
)
_RUN_NAME: Final = re.compile(rf"[^\W_][\w.-]{{0,{_MOST_CHARACTERS - 1}}}")


def _check_run_name(name: str | None) -> None:
    if name in ("base", "adapter"):
        raise RecipeError(f"run_name is {name}, which has a meaning of its own; choose another.")
    if name is not None and not _RUN_NAME.fullmatch(name):
        raise refusal("run_name", name, _RUN_NAME_RULE)


class Recipe(TrainingParameters, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """All settings of a training run; immutable, and valid once built by this package."""

    val_batches: Annotated[
        int,
        Declared(
            group="validation and saving",
            help="Batches of the validation set to use; -1 is all, 0 turns validation off.",
            effect=Effect(
                speed="each costs about a third of a step", quality="a less noisy validation loss"
            ),
            step="one",
            minimum=-1,
            maximum=1_000_000,
            unit="batches",
            meanings={"-1": "all batches", "0": "off"},
            mlx_lm="flag",
        ),
    ] = 25
    val_at_start: Annotated[
        bool,
        Declared(
            group="validation and saving",
            help="Also validate before the first step, to see what training improves.",
            effect=Effect(speed="the first step waits for one more validation"),
            mlx_lm="always",
            before=False,
        ),
    ] = True
    steps_per_eval: Annotated[
        int,
        Declared(
            group="validation and saving",
            help="Steps between validations; there is always one at the end.",
            effect=Effect(
                speed="larger is faster", quality="smaller finds the best step more precisely"
            ),
            step="ten",
            minimum=1,
            maximum=100_000_000,
            unit="steps",
            mlx_lm="flag",
        ),
    ] = 200
    early_stopping: Annotated[
        int,
        Declared(
            group="validation and saving",
            help="End the run after this many validations in a row without a new best; 0 is off.",
            effect=Effect(
                speed="ends a run that no longer improves", quality="ends it before it overfits"
            ),
            step="one",
            minimum=0,
            maximum=1_000_000,
            unit="validations",
            meanings={"0": "off"},
        ),
    ] = 0
    steps_per_report: Annotated[
        int,
        Declared(
            group="validation and saving",
            help="Steps between log lines.",
            step="one",
            minimum=1,
            maximum=1_000_000,
            unit="steps",
            mlx_lm="flag",
        ),
    ] = 10
    save_every: Annotated[
        int,
        Declared(
            group="validation and saving",
            help="Steps between checkpoints; there is always one at the end.",
            effect=Effect(speed="each checkpoint takes a moment and disk space"),
            step="ten",
            minimum=1,
            maximum=100_000_000,
            unit="steps",
            mlx_lm="flag",
        ),
    ] = 100
    keep_checkpoints: Annotated[
        int,
        Declared(
            group="validation and saving",
            help="Checkpoints to keep: the newest ones, and always that of the best validation.",
            effect=Effect(quality="more to choose from; each takes disk space"),
            step="one",
            minimum=1,
            maximum=1_000_000,
            unit="checkpoints",
        ),
    ] = 3
    resume: Annotated[
        Literal["manual", "automatic"],
        Declared(
            group="validation and saving",
            help="After a crash of the engine (killed, aborted, out of memory): wait for you, or "
            "continue from the last checkpoint, with less memory where that was short. The third "
            "crash without a new checkpoint ends the run.",
            kept_by_presets=True,
        ),
    ] = "manual"
    sample_prompt: Annotated[
        str | None,
        Declared(
            group="validation and saving",
            help="A prompt that the model answers during training, to watch it change.",
            effect=Effect(
                memory="the answer's key-value cache",
                speed="training waits for each answer",
                quality="shows what the model has learned",
            ),
            kept_by_presets=True,
        ),
    ] = None
    sample_every: Annotated[
        int,
        Declared(
            group="validation and saving",
            help="Steps between answers to sample_prompt; also at the start and the end.",
            effect=Effect(speed="larger is faster"),
            step="ten",
            minimum=1,
            maximum=100_000_000,
            unit="steps",
        ),
    ] = 100
    prevent_sleep: Annotated[
        bool,
        Declared(
            group="validation and saving",
            help="Keep a Mac awake during the run.",
            kept_by_presets=True,
        ),
    ] = True
    gpu_work: Annotated[
        Literal["normal", "short", "relaxed"],
        Declared(
            group="validation and saving",
            help="Give a Mac's GPU short pieces of work, so that macOS doesn't end a step to keep "
            "a display alive; relaxed also has macOS wait longer for them.",
            effect=Effect(speed="short pieces cost some", quality="the same"),
            kept_by_presets=True,
            before="normal",
        ),
    ] = "normal"
    may_swap: Annotated[
        bool,
        Declared(
            group="validation and saving",
            help="Start a run on a Mac although it needs more memory than other programs leave.",
            effect=Effect(speed="far slower, since macOS swaps", quality="the same"),
            kept_by_presets=True,
            before=False,
        ),
    ] = False
    hosts: Annotated[
        int | str,
        Declared(
            group="validation and saving",
            help="How many processes on this machine train together, one a GPU; or machines by "
            "name, this one first, as mac-a, mac-b@10.0.0.2; or an mlx hostfile. check-hosts and "
            "the doctor ask them.",
            effect=Effect(
                memory="each has the whole model and its share of the rows",
                speed="pays where a step takes longer than adding up the gradients",
                quality="the same: batch_size counts the rows of all",
            ),
            step="one",
            minimum=1,
            maximum=256,
            check=check_hosts,
            rule="a number of processes from 1 to 256, names separated by commas, or the path of "
            "a hostfile",
            left_out=True,
            kept_by_presets=True,
        ),
    ] = 1
    report_to: Annotated[
        str | None,
        Declared(
            group="validation and saving",
            help="Also report to tensorboard, trackio, wandb or swanlab; several separated by "
            "commas.",
            check=check_report_to,
            mlx_lm="flag",
            kept_by_presets=True,
        ),
    ] = None
    project_name: Annotated[
        str | None,
        Declared(
            group="validation and saving",
            help="The project's name at these services; mlxft-tui without one.",
            mlx_lm="flag",
            kept_by_presets=True,
        ),
    ] = None
    run_name: Annotated[
        str | None,
        Declared(
            group="validation and saving",
            help="The run's name and its folder's in adapters; a taken one gets a number. Empty: "
            "model and kind.",
            check=_check_run_name,
            rule=_RUN_NAME_RULE,
            kept_by_presets=True,
        ),
    ] = None


SECTIONS: Final = sections_of(Recipe)
"""Parameters that hold others, by name."""

PARAMETERS: Final[dict[str, Parameter]] = {each.key: each for each in parameters_of(Recipe)}
"""Every parameter by its dotted key, in the order of the form."""


_OTHER_NAMES: Final = {
    each.declared.other_name.key: each for each in PARAMETERS.values() if each.declared.other_name
}
"""Parameters by what mlx-lm calls them, where that is not our name."""


def in_our_terms(key: str, value: object) -> tuple[str, object]:
    """A key and its value, of which both may be mlx-lm's, as ours."""
    parameter = _OTHER_NAMES.get(key)
    if parameter is None or parameter.declared.other_name is None:
        return key, value
    return parameter.key, parameter.declared.other_name.ours(value)


def keys_where(condition: Callable[[Declared], bool]) -> tuple[str, ...]:
    """The keys of all parameters whose declaration meets a condition."""
    return tuple(key for key, each in PARAMETERS.items() if condition(each.declared))


def find(key: str) -> Parameter:
    """The parameter of a dotted key, or of its last part where that is unique.

    Raises `RecipeError` naming the closest key.
    """
    if key in PARAMETERS:
        return PARAMETERS[key]
    matches = [each for each in PARAMETERS.values() if each.name == key]
    if len(matches) == 1:
        return matches[0]
    names = [*PARAMETERS, *(each.name for each in PARAMETERS.values())]
    # A word is more often cut short or continued than begun otherwise.
    close = sorted(difflib.get_close_matches(key, names), key=lambda each: each[0] != key[:1])
    hint = f"did you mean {close[0]}?" if close else "mlxft-tui train --help lists the keys."
    raise RecipeError(f"{key} is not a training parameter; {hint}")
