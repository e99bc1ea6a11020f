"""Every training parameter, declared once.

The form, ``--set``, ``train --help``, the YAML file, its validation, the mlx_lm command, the rules
of resuming, the keys of the token cache and ``docs/recipe.md`` are all derived from the annotations
here and in `sections`. Keys are mlx-lm's own, nested ones dotted (``lora_parameters.rank``).
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Mapping
from typing import Annotated, Any, Final, Literal

import msgspec

from mlxft.errors import RecipeError
from mlxft.recipe.declaration import (
    Declared,
    Effect,
    Parameter,
    Reduction,
    parameters_of,
    sections_of,
)
from mlxft.recipe.sections import LoraParameters, LrSchedule

FineTuneType = Literal["lora", "dora", "full"]
Optimizer = Literal["adam", "adamw", "sgd", "muon", "adafactor"]
Overlong = Literal["truncate", "split", "drop"]
FaultyRecords = Literal["leave_out", "refuse"]
AccumulationWeight = Literal["tokens", "steps"]


_RUN_NAME: Final = re.compile(r"[^\W_][\w.-]{0,99}")


def _check_columns(columns: Mapping[str, str]) -> None:
    for one, other in (("role", "content"), ("user", "assistant")):
        if one in columns and columns[one] == columns.get(other):
            raise RecipeError(
                f"columns has {columns[one]} for both {one} and {other}; change one of them."
            )


def _check_run_name(name: str | None) -> None:
    if name in ("base", "adapter"):
        raise RecipeError(f"run_name is {name}, which has a meaning of its own; choose another.")
    if name is not None and not _RUN_NAME.fullmatch(name):
        raise RecipeError(
            f"run_name is {name!r}; it must consist of letters, digits, dots, hyphens and "
            "underscores, and begin with a letter or a digit."
        )


class Recipe(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """All settings of a training run; immutable, and valid once built by this package."""

    model: Annotated[
        str,
        Declared(
            group="model",
            help="A local MLX model folder, a Hugging Face id, or demo.",
            effect=Effect(
                memory="its weights; 4 bits take a quarter of bfloat16",
                speed="by its parameter count",
                quality="larger models know more; 4 bits lose a little",
            ),
            mlx_lm="flag",
            changes_tokens="tokenizer",
            kept_by_presets=True,
        ),
    ] = ""
    fine_tune_type: Annotated[
        FineTuneType,
        Declared(
            group="model",
            help="lora trains a low-rank update; dora adds a magnitude to it; full trains the "
            "layers themselves.",
            effect=Effect(
                memory="lora least, full by far the most",
                speed="lora fastest, dora slowest",
                quality="dora helps at low rank; full can learn and forget most",
            ),
            mlx_lm="flag",
            resume="fixed",
            reduction=Reduction(order=5, instead={"full": "lora"}),
        ),
    ] = "lora"
    trust_remote_code: Annotated[
        bool,
        Declared(
            group="model",
            help="Run Python code that comes with the model; only if you trust it.",
            mlx_lm="switch",
            kept_by_presets=True,
        ),
    ] = False
    data: Annotated[
        str,
        Declared(
            group="data",
            help="Folder with train.jsonl and, optionally, valid.jsonl and test.jsonl; or one "
            "file, or a Hugging Face dataset.",
            effect=Effect(
                memory="its longest record",
                speed="its tokens",
                quality="matters more than any other parameter",
            ),
            mlx_lm="flag",
            resume="reorders",
            kept_by_presets=True,
        ),
    ] = "data"
    max_seq_length: Annotated[
        int,
        Declared(
            group="data",
            help="Longer records are truncated, split or dropped, as overlong says.",
            effect=Effect(
                memory="activations grow with it if records are that long",
                speed="only if records are longer",
                quality="truncated text is not learned",
            ),
            step="double",
            minimum=8,
            maximum=1_048_576,
            unit="tokens",
            mlx_lm="flag",
            resume="reorders",
            changes_tokens="truncation",
            reduction=Reduction(order=3, smallest=256),
        ),
    ] = 2048
    overlong: Annotated[
        Overlong,
        Declared(
            group="data",
            help="What happens to a record longer than max_seq_length: truncate cuts it and keeps "
            "its end-of-text token, split trains it in pieces, drop leaves it out.",
            effect=Effect(
                speed="split trains more rows",
                quality="split keeps all text; truncate and drop lose some",
            ),
            resume="reorders",
            changes_tokens="truncation",
        ),
    ] = "truncate"
    packing: Annotated[
        bool,
        Declared(
            group="data",
            help="Put several short records in a row, each attending only to itself, to save "
            "padding.",
            effect=Effect(
                memory="rows are full, and need an attention mask",
                speed="more trained tokens per second with short records",
                quality="more records per step: fewer updates per epoch",
            ),
            resume="reorders",
            changes_tokens="batches",
        ),
    ] = False
    faulty_records: Annotated[
        FaultyRecords,
        Declared(
            group="data",
            help="leave_out skips records with faults and lists them; refuse stops before the run.",
            resume="reorders",
        ),
    ] = "leave_out"
    columns: Annotated[
        dict[str, str],
        Declared(
            group="data",
            help="Your data's field names where they differ from the usual ones, as "
            "{prompt: question, completion: reply}; role and content are keys of messages, user "
            "and assistant the names of those roles.",
            example="{prompt: question, completion: reply}",
            check=_check_columns,
            resume="reorders",
            changes_tokens="tokens",
            kept_by_presets=True,
        ),
    ] = {}
    mask_prompt: Annotated[
        bool,
        Declared(
            group="data",
            help="Train on the answer only; off trains on the prompt's tokens too.",
            effect=Effect(
                quality="learns to answer, not to ask; helps with long or similar prompts"
            ),
            mlx_lm="switch",
            resume="reorders",
            changes_tokens="tokens",
            kept_by_presets=True,
        ),
    ] = False
    num_layers: Annotated[
        int,
        Declared(
            group="adapter",
            help="How many transformer blocks to train, counted from the last; -1 is all.",
            effect=Effect(
                memory="activations of each trained block",
                speed="a backward pass through each block",
                quality="more capacity; 4 to 16 suit most datasets",
            ),
            step="one",
            minimum=-1,
            maximum=1000,
            unit="layers",
            meanings={"-1": "all layers", "0": "all layers"},
            mlx_lm="flag",
            resume="fixed",
            reduction=Reduction(order=4, smallest=1),
        ),
    ] = 16
    lora_parameters: LoraParameters = LoraParameters()
    optimizer: Annotated[
        Optimizer,
        Declared(
            group="optimization",
            help="How gradients become updates; adam suits most, adamw adds weight decay.",
            effect=Effect(
                memory="adam and adamw two values per trained weight, sgd and muon one, adafactor "
                "least",
                speed="muon is slower",
                quality="adam or adamw unless you know better",
            ),
            mlx_lm="flag",
            resume="fixed",
        ),
    ] = "adam"
    optimizer_config: Annotated[
        dict[str, dict[str, Any]],
        Declared(
            group="optimization",
            help="Extra arguments of mlx's optimizers by name, as adamw: {weight_decay: 0.01}.",
            example="{adamw: {weight_decay: 0.1}}",
            mlx_lm="config",
        ),
    ] = {}
    learning_rate: Annotated[
        float,
        Declared(
            group="optimization",
            help="Size of an update. 2e-4 suits a 4-bit model, 1e-4 an 8-bit one, 5e-5 to 1e-4 "
            "full precision; spikes mean it is too high.",
            effect=Effect(quality="too low learns slowly; too high spikes and forgets"),
            step="one_two_five",
            minimum=0,
            maximum=10,
            mlx_lm="flag",
            resume="rate",
        ),
    ] = 1e-5
    batch_size: Annotated[
        int,
        Declared(
            group="optimization",
            help="Records per step; rows, if they are packed.",
            effect=Effect(
                memory="activations grow with it",
                speed="more tokens per second on a GPU, longer steps",
                quality="steadier, with fewer updates per epoch",
            ),
            step="one",
            minimum=1,
            maximum=4096,
            unit="records",
            mlx_lm="flag",
            resume="reorders",
            changes_tokens="batches",
            reduction=Reduction(order=2, smallest=1),
        ),
    ] = 4
    grad_accumulation_steps: Annotated[
        int,
        Declared(
            group="optimization",
            help="Steps whose gradients are added up for one update: a larger batch in less "
            "memory.",
            effect=Effect(
                memory="one more copy of the gradients",
                speed="the same per step",
                quality="like a batch that many times as large: fewer updates per epoch",
            ),
            step="one",
            minimum=1,
            maximum=4096,
            unit="steps",
            mlx_lm="flag",
        ),
    ] = 1
    grad_accumulation_by: Annotated[
        AccumulationWeight,
        Declared(
            group="optimization",
            help="What each step counts for in an accumulated update: its trained tokens, which "
            "equals a larger batch, or one each, as in mlx-lm.",
            effect=Effect(quality="steps: short batches count as much as long ones"),
            before="steps",
        ),
    ] = "tokens"
    max_grad_norm: Annotated[
        float,
        Declared(
            group="optimization",
            help="Clip gradients to this norm, so that one odd batch can't throw the weights far; "
            "1 is usual, 0 is off.",
            effect=Effect(quality="low values limit the damage of odd batches"),
            step="one_two_five",
            minimum=0,
            maximum=1_000_000,
            finest=0.1,
            meanings={"0": "off"},
        ),
    ] = 0.0
    iters: Annotated[
        int,
        Declared(
            group="optimization",
            help="Training steps, one batch each.",
            effect=Effect(
                speed="time grows with it", quality="too few learn little, many epochs overfit"
            ),
            step="ten",
            minimum=1,
            maximum=100_000_000,
            unit="steps",
            mlx_lm="flag",
        ),
    ] = 1000
    seed: Annotated[
        int,
        Declared(
            group="optimization",
            help="Decides the adapter's initial weights, the order of the records and the dropout.",
            effect=Effect(quality="another seed shows how much results vary by chance"),
            step="one",
            minimum=0,
            maximum=2**32 - 1,
            mlx_lm="flag",
            resume="reorders",
            changes_tokens="batches",
            kept_by_presets=True,
        ),
    ] = 0
    resume_adapter_file: Annotated[
        str | None,
        Declared(
            group="model",
            help="Start from these adapter weights, a file or folder, instead of new ones.",
            effect=Effect(quality="builds on what that adapter has learned"),
            mlx_lm="flag",
            kept_by_presets=True,
        ),
    ] = None
    lr_schedule: LrSchedule | None = None
    grad_checkpoint: Annotated[
        bool,
        Declared(
            group="memory",
            help="Recompute activations in the backward pass instead of keeping them.",
            effect=Effect(
                memory="far less: blocks keep only their inputs",
                speed="about a third slower: each trained block is computed twice",
                quality="the same",
            ),
            mlx_lm="switch",
            reduction=Reduction(order=1, instead={False: True}),
        ),
    ] = False
    clear_cache_threshold: Annotated[
        int,
        Declared(
            group="memory",
            help="Free MLX's cache between steps when it holds more than this; 0 always frees it.",
            effect=Effect(
                memory="what MLX may keep between steps", speed="less waiting for memory"
            ),
            minimum=0,
            maximum=2**50,
            unit="bytes",
            mlx_lm="flag",
        ),
    ] = 0
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
    report_to: Annotated[
        str | None,
        Declared(
            group="validation and saving",
            help="Also report to wandb, swanlab, or both separated by a comma.",
            mlx_lm="flag",
            kept_by_presets=True,
        ),
    ] = None
    project_name: Annotated[
        str | None,
        Declared(
            group="validation and saving",
            help="The project's name at that service.",
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
            kept_by_presets=True,
        ),
    ] = None


SECTIONS: Final = sections_of(Recipe)
"""Parameters that hold others, by name."""

PARAMETERS: Final[dict[str, Parameter]] = {each.key: each for each in parameters_of(Recipe)}
"""Every parameter by its dotted key, in the order of the form."""


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
    close = difflib.get_close_matches(key, names, 1)
    hint = f"did you mean {close[0]}?" if close else "mlxft-tui train --help lists the keys."
    raise RecipeError(f"{key} is not a training parameter; {hint}")
