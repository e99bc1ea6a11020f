"""Every training parameter, declared once.

The form, the command line's ``--set``, the YAML file, its validation and the documentation are all
rendered from the annotations on `Recipe`. Keys are mlx-lm's own, nested ones dotted
(``lora_parameters.rank``), and `dump` writes a file that ``mlx_lm lora --config`` accepts.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from types import NoneType, UnionType
from typing import Annotated, Any, Final, Literal, Union, get_args, get_origin, get_type_hints

import msgspec

from mlxft.errors import RecipeError

FineTuneType = Literal["lora", "dora", "full"]
Optimizer = Literal["adam", "adamw", "sgd", "muon", "adafactor"]
ScheduleName = Literal[
    "constant", "cosine_decay", "linear_schedule", "exponential_decay", "step_decay"
]
Group = Literal[
    "model", "data", "adapter", "optimization", "schedule", "memory", "validation and saving"
]
Overlong = Literal["truncate", "split", "drop"]
FaultyRecords = Literal["leave_out", "refuse"]
Ladder = Literal["one", "ten", "hundred", "double", "one_two_five", "tenth", "choices", "none"]
"""How left and right step a value: its natural scale."""

Scalar = str | int | float | bool | None
Value = Scalar | tuple[str, ...] | tuple[float, ...] | dict[str, Any]


class Declared(msgspec.Struct, frozen=True):
    """What a field's annotation says beyond its type."""

    group: Group
    help: str
    ladder: Ladder = "none"
    minimum: float | None = None
    maximum: float | None = None
    unit: str = ""
    finest: float = 1e-7
    """The smallest value above 0 that stepping by 1, 2 and 5 reaches."""


class LoraParameters(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The shape of the low-rank update."""

    rank: Annotated[
        int,
        Declared(
            "adapter",
            "Width of the low-rank update; 8 to 32 suits most sets.",
            "double",
            1,
            1024,
        ),
    ] = 8
    scale: Annotated[
        float,
        Declared(
            "adapter",
            "Multiplies the update directly (alpha / rank in other tools).",
            "one",
            0,
            1000,
        ),
    ] = 20.0
    dropout: Annotated[
        float,
        Declared(
            "adapter",
            "Share of the update's inputs dropped at random in training.",
            "tenth",
            0,
            0.95,
        ),
    ] = 0.0
    keys: Annotated[
        tuple[str, ...] | None,
        Declared(
            "adapter",
            "Which linear layers of a block get an adapter, as names like self_attn.q_proj; "
            "empty means all.",
        ),
    ] = None


class LrSchedule(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How the learning rate moves; its unit is optimizer updates."""

    name: Annotated[
        ScheduleName,
        Declared(
            "schedule",
            "Shape of the learning rate over the run; cosine_decay ends calmly and rarely hurts.",
            "choices",
        ),
    ] = "constant"
    arguments: Annotated[
        tuple[float, ...],
        Declared(
            "schedule",
            "Arguments of mlx's schedule of that name, the first being the initial rate; "
            "empty means from learning_rate down over the whole run.",
        ),
    ] = ()
    warmup: Annotated[
        int,
        Declared(
            "schedule",
            "Updates over which the rate rises to its start; steadies the first steps.",
            "ten",
            0,
            1_000_000,
            "updates",
        ),
    ] = 0
    warmup_init: Annotated[
        float,
        Declared(
            "schedule",
            "Rate at the start of the warm-up; at 0 the first update changes nothing.",
            "one_two_five",
            0,
            1,
        ),
    ] = 0.0


class Recipe(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """All that decides a training run; immutable, and valid once built by this module."""

    model: Annotated[
        str, Declared("model", "A local MLX model folder, a Hugging Face id, or demo.")
    ] = ""
    fine_tune_type: Annotated[
        FineTuneType,
        Declared(
            "model",
            "lora trains a small update; dora adds a magnitude to it; full trains the layers "
            "themselves.",
            "choices",
        ),
    ] = "lora"
    trust_remote_code: Annotated[
        bool,
        Declared("model", "Let the model folder's own Python code run; only if you trust it."),
    ] = False
    data: Annotated[
        str, Declared("data", "Folder with train.jsonl and, if there is one, valid.jsonl.")
    ] = "data"
    max_seq_length: Annotated[
        int,
        Declared(
            "data",
            "Records longer than this are cut, split or left out, as overlong says.",
            "double",
            8,
            1_048_576,
            "tokens",
        ),
    ] = 2048
    overlong: Annotated[
        Overlong,
        Declared(
            "data",
            "What becomes of a record longer than max_seq_length: truncate cuts it and keeps its "
            "end-of-text token, split trains it in pieces, drop leaves it out.",
            "choices",
        ),
    ] = "truncate"
    packing: Annotated[
        bool,
        Declared(
            "data",
            "Put several short records in a row, each seeing only itself, so that little is "
            "padding.",
        ),
    ] = False
    faulty_records: Annotated[
        FaultyRecords,
        Declared(
            "data",
            "Whether records with faults are left out, each one listed, or the run is refused.",
            "choices",
        ),
    ] = "leave_out"
    columns: Annotated[
        dict[str, str],
        Declared(
            "data",
            "Names of your data's fields where they are not the usual ones, as "
            "{prompt: question, completion: reply}; role and content are keys of messages, user "
            "and assistant what those roles are called there.",
        ),
    ] = {}
    mask_prompt: Annotated[
        bool,
        Declared("data", "Train on the answer only; off trains on the prompt's tokens too."),
    ] = False
    num_layers: Annotated[
        int,
        Declared(
            "adapter",
            "How many blocks to train, counted from the last; -1 is all.",
            "one",
            -1,
            1000,
            "layers",
        ),
    ] = 16
    lora_parameters: LoraParameters = LoraParameters()
    optimizer: Annotated[
        Optimizer,
        Declared(
            "optimization",
            "How gradients become updates; adam suits most, adamw adds weight decay.",
            "choices",
        ),
    ] = "adam"
    optimizer_config: Annotated[
        dict[str, dict[str, Any]],
        Declared(
            "optimization",
            "Extra arguments of mlx's optimizers by name, as adamw: {weight_decay: 0.01}.",
        ),
    ] = {}
    learning_rate: Annotated[
        float,
        Declared(
            "optimization",
            "Size of an update. 2e-4 suits a 4-bit model, 1e-4 an 8-bit one, 5e-5 to 1e-4 full "
            "precision; spikes mean it is too high.",
            "one_two_five",
            0,
            10,
        ),
    ] = 1e-5
    batch_size: Annotated[
        int,
        Declared(
            "optimization",
            "Records in a step; rows, where they are packed.",
            "one",
            1,
            4096,
            "records",
        ),
    ] = 4
    grad_accumulation_steps: Annotated[
        int,
        Declared(
            "optimization",
            "Steps whose gradients are added before an update: a larger batch in less memory.",
            "one",
            1,
            4096,
            "steps",
        ),
    ] = 1
    max_grad_norm: Annotated[
        float,
        Declared(
            "optimization",
            "Gradients longer than this are scaled down to it, so that one odd batch can't throw "
            "the weights far; 1 is usual, 0 is off.",
            "one_two_five",
            0,
            1_000_000,
            finest=0.1,
        ),
    ] = 0.0
    iters: Annotated[
        int,
        Declared("optimization", "Training steps, one batch each.", "ten", 1, 100_000_000, "steps"),
    ] = 1000
    seed: Annotated[
        int,
        Declared(
            "optimization",
            "Decides the adapter's start, the order of the records and the dropout.",
            "one",
            0,
            2**32 - 1,
        ),
    ] = 0
    resume_adapter_file: Annotated[
        str | None,
        Declared("model", "Start from these adapter weights instead of fresh ones."),
    ] = None
    lr_schedule: LrSchedule | None = None
    grad_checkpoint: Annotated[
        bool,
        Declared(
            "memory",
            "Compute activations again in the backward pass instead of keeping them.",
        ),
    ] = False
    clear_cache_threshold: Annotated[
        int,
        Declared(
            "memory",
            "Free MLX's cache between steps when it holds more than this; 0 frees it always.",
            "none",
            0,
            2**50,
            "bytes",
        ),
    ] = 0
    val_batches: Annotated[
        int,
        Declared(
            "validation and saving",
            "Batches of the validation set to use; -1 is all of it, 0 turns validation off.",
            "one",
            -1,
            1_000_000,
            "batches",
        ),
    ] = 25
    steps_per_eval: Annotated[
        int,
        Declared(
            "validation and saving",
            "Validate every this many steps, and at the end; as many as iters is at the end only.",
            "ten",
            1,
            100_000_000,
            "steps",
        ),
    ] = 200
    early_stopping: Annotated[
        int,
        Declared(
            "validation and saving",
            "End the run after this many validations in a row without a new best; 0 is off.",
            "one",
            0,
            1_000_000,
            "validations",
        ),
    ] = 0
    steps_per_report: Annotated[
        int,
        Declared(
            "validation and saving",
            "Write a report to the log every this many steps.",
            "one",
            1,
            1_000_000,
            "steps",
        ),
    ] = 10
    save_every: Annotated[
        int,
        Declared(
            "validation and saving",
            "Save adapter and checkpoint every this many steps, and at the end.",
            "ten",
            1,
            100_000_000,
            "steps",
        ),
    ] = 100
    keep_checkpoints: Annotated[
        int,
        Declared(
            "validation and saving",
            "Checkpoints to keep, the newest ones; that of the best validation is kept besides.",
            "one",
            1,
            1_000_000,
            "checkpoints",
        ),
    ] = 3
    sample_prompt: Annotated[
        str | None,
        Declared(
            "validation and saving",
            "A question that the model answers while it trains, so that one sees it change.",
        ),
    ] = None
    sample_every: Annotated[
        int,
        Declared(
            "validation and saving",
            "Answer sample_prompt every this many steps, and at the start and the end.",
            "ten",
            1,
            100_000_000,
            "steps",
        ),
    ] = 100
    prevent_sleep: Annotated[
        bool,
        Declared("validation and saving", "Keep a Mac awake while the run is live."),
    ] = True
    report_to: Annotated[
        str | None,
        Declared(
            "validation and saving",
            "Also report to these services: wandb, swanlab, or both with a comma.",
        ),
    ] = None
    project_name: Annotated[
        str | None,
        Declared("validation and saving", "The project's name at those services."),
    ] = None


Kind = Literal["int", "float", "bool", "choice", "text", "texts", "numbers", "mapping"]


class Parameter(msgspec.Struct, frozen=True):
    """One declared parameter as the form, the flags and the documentation see it."""

    key: str
    kind: Kind
    default: Value
    declared: Declared
    annotation: Any
    choices: tuple[str, ...] = ()
    optional: bool = False

    @property
    def name(self) -> str:
        """The last part of the key, as a label."""
        return self.key.rpartition(".")[2]

    @property
    def rule(self) -> str:
        """What a value must be, as the end of a sentence."""
        low, high = self.declared.minimum, self.declared.maximum
        span = f" from {low:.10g} to {high:.10g}" if low is not None and high is not None else ""
        match self.kind:
            case "int":
                rule = f"a whole number{span}"
            case "float":
                rule = f"a number{span}"
            case "bool":
                rule = "true or false"
            case "choice":
                rule = f"one of {', '.join(self.choices)}"
            case "text":
                rule = "text, no longer than a path can be"
            case "texts":
                rule = "a list of names"
            case "numbers":
                rule = "a list of numbers"
            case "mapping":
                rule = "a mapping, as {adamw: {weight_decay: 0.1}}"
        return rule


SECTIONS: Final = {"lora_parameters": LoraParameters, "lr_schedule": LrSchedule}


def _parameters() -> Iterable[Parameter]:
    def of(struct: Any, prefix: str) -> Iterable[Parameter]:
        defaults = struct()
        for name, hint in get_type_hints(struct, include_extras=True).items():
            if not prefix and name in SECTIONS:
                yield from of(SECTIONS[name], f"{name}.")
                continue
            annotation, declared = hint.__origin__, hint.__metadata__[0]
            kind, choices, optional = _kind(annotation)
            yield Parameter(
                prefix + name,
                kind,
                getattr(defaults, name),
                declared,
                annotation,
                choices,
                optional,
            )

    return of(Recipe, "")


def _kind(annotation: Any) -> tuple[Kind, tuple[str, ...], bool]:
    if get_origin(annotation) in (Union, UnionType):
        (inner,) = [part for part in get_args(annotation) if part is not NoneType]
        kind, choices, _ = _kind(inner)
        return kind, choices, True
    if get_origin(annotation) is Literal:
        return "choice", get_args(annotation), False
    if get_origin(annotation) is tuple:
        return ("texts" if get_args(annotation)[0] is str else "numbers"), (), False
    if get_origin(annotation) is dict:
        return "mapping", (), False
    kinds: dict[Any, Kind] = {int: "int", float: "float", bool: "bool", str: "text"}
    return kinds[annotation], (), False


PARAMETERS: Final[dict[str, Parameter]] = {each.key: each for each in _parameters()}
"""Every parameter by its dotted mlx-lm key, in the order of the form."""


GROUPS: Final[tuple[Group, ...]] = get_args(Group)


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
