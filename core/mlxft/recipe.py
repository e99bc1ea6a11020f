"""Every training parameter, declared once.

The form, the command line's ``--set``, the YAML file, its validation and the documentation are all
rendered from the annotations on `Recipe`. Keys are mlx-lm's own, nested ones dotted
(``lora_parameters.rank``), and `dump` writes a file that ``mlx_lm lora --config`` accepts.
"""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Final, Literal, Union, get_args, get_origin, get_type_hints

import msgspec

from mlxft.errors import RecipeError, StorageError

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


_SECTIONS: Final = {"lora_parameters": LoraParameters, "lr_schedule": LrSchedule}


def _parameters() -> Iterable[Parameter]:
    def of(struct: Any, prefix: str) -> Iterable[Parameter]:
        defaults = struct()
        for name, hint in get_type_hints(struct, include_extras=True).items():
            if not prefix and name in _SECTIONS:
                yield from of(_SECTIONS[name], f"{name}.")
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

_NOT_TRAINING: Final = frozenset({"train", "config", "adapter_path"})
"""mlx-lm keys that a config may hold and that say nothing about the training itself."""

_UNSUPPORTED: Final = frozenset(
    {
        "test",
        "test_batches",
        "hf_dataset",
        "prompt_feature",
        "completion_feature",
        "chat_feature",
        "text_feature",
    }
)
"""mlx-lm keys that are accepted while they ask for nothing."""


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


def get(recipe: Recipe, key: str) -> Any:
    """The value of a dotted key."""
    section, _, name = key.rpartition(".")
    if not section:
        return getattr(recipe, name)
    return getattr(getattr(recipe, section) or _SECTIONS[section](), name)


def replace(recipe: Recipe, key: str, value: object) -> Recipe:
    """The recipe with one value changed, checked against its declaration.

    Raises `RecipeError`.
    """
    parameter = find(key)
    checked = check(parameter, value)
    section, _, name = parameter.key.rpartition(".")
    if not section:
        return msgspec.structs.replace(recipe, **{name: checked})
    nested = getattr(recipe, section) or _SECTIONS[section]()
    return msgspec.structs.replace(
        recipe, **{section: msgspec.structs.replace(nested, **{name: checked})}
    )


def check(parameter: Parameter, value: object) -> Any:
    """The value in the parameter's type; text is read as a person would write it.

    Raises `RecipeError` saying what the value must be.
    """
    if isinstance(value, str):
        value = _from_text(parameter, value)
    fractional = isinstance(value, float) and not value.is_integer()
    if isinstance(value, bool) != (parameter.kind == "bool") or (
        parameter.kind == "int" and fractional
    ):
        raise _refusal(parameter, value)
    try:
        checked = msgspec.convert(value, parameter.annotation, strict=False)
    except msgspec.ValidationError:
        raise _refusal(parameter, value) from None
    if isinstance(checked, str) and not _can_be_a_path(checked):
        raise _refusal(parameter, checked[:40])
    if parameter.key == "columns":
        _check_columns(checked)
    low, high = parameter.declared.minimum, parameter.declared.maximum
    if isinstance(checked, int | float) and not isinstance(checked, bool):
        finite = math.isfinite(checked)
        if (
            not finite
            or (low is not None and checked < low)
            or (high is not None and checked > high)
        ):
            raise _refusal(parameter, value)
    return checked


def _check_columns(columns: Mapping[str, str]) -> None:
    for one, other in (("role", "content"), ("user", "assistant")):
        if one in columns and columns[one] == columns.get(other):
            raise RecipeError(
                f"columns takes both {one} and {other} for {columns[one]}; name another for one."
            )


def _can_be_a_path(text: str) -> bool:
    """Whether the system would take the text as a path; most texts of a recipe are paths."""
    parts = text.encode(errors="surrogatepass").split(b"/")
    return b"\0" not in b"".join(parts) and max(map(len, parts)) < 256 and len(text) < 1024


def _refusal(parameter: Parameter, value: object) -> RecipeError:
    shown = "empty" if value in ("", None) else f"{value!r}"
    return RecipeError(f"{parameter.key} is {shown}; it must be {parameter.rule}.")


_BOOLEANS: Final = {
    "true": True,
    "yes": True,
    "on": True,
    "false": False,
    "no": False,
    "off": False,
}


def _from_text(parameter: Parameter, text: str) -> object:
    text = text.strip()
    if parameter.optional and text.lower() in ("", "none", "null"):
        return None
    if parameter.kind in ("texts", "numbers"):
        return [part for part in re.split(r"[,\s]+", text.strip("[]()")) if part]
    if parameter.kind == "bool":
        return _BOOLEANS.get(text.lower(), text)
    if parameter.kind == "mapping":
        return _yaml(text, parameter.key)
    if parameter.kind == "int":
        try:
            return float(text) if re.search(r"[.eE]", text) else int(text.replace("_", ""))
        except ValueError:
            return text
    return text


def step(recipe: Recipe, key: str, direction: Literal[-1, 1]) -> Recipe:
    """The recipe with one value moved a step along its natural scale, held in its range."""
    parameter = find(key)
    value = get(recipe, parameter.key)
    if parameter.kind == "bool":
        return replace(recipe, key, not value)
    if parameter.kind == "choice":
        at = parameter.choices.index(value) + direction
        return replace(recipe, key, parameter.choices[at % len(parameter.choices)])
    if parameter.declared.ladder == "none":
        return recipe
    moved = _along(parameter.declared, float(value), direction)
    low, high = parameter.declared.minimum, parameter.declared.maximum
    bounded = min(
        max(moved, low if low is not None else moved), high if high is not None else moved
    )
    return replace(recipe, key, int(bounded) if parameter.kind == "int" else bounded)


def _along(declared: Declared, value: float, direction: int) -> float:
    match declared.ladder:
        case "double":
            return value * 2 if direction > 0 else value // 2
        case "ten" | "hundred":
            size = 10 if declared.ladder == "ten" else 100
            return (
                (value // size + 1) * size
                if direction > 0
                else (math.ceil(value / size) - 1) * size
            )
        case "tenth":
            return round(value + direction * 0.05, 10)
        case "one_two_five":
            return _one_two_five(value, direction, declared.finest)
        case _:
            return value + direction


def _one_two_five(value: float, direction: int, finest: float) -> float:
    """The next of 1, 2, 5, 10 …; below the finest comes 0, and above 0 the finest."""
    rungs = [float(f"{digit}e{power}") for power in range(-9, 7) for digit in (1, 2, 5)]
    rungs = [rung for rung in rungs if rung >= finest]
    if direction > 0:
        return next((rung for rung in rungs if rung > value * 1.0001), value)
    return next((rung for rung in reversed(rungs) if rung < value * 0.9999), 0.0)


def updates(recipe: Recipe) -> int:
    """Optimizer updates of a whole run; a last partial accumulation window counts as one."""
    return math.ceil(recipe.iters / recipe.grad_accumulation_steps)


def resolved_schedule(recipe: Recipe) -> LrSchedule | None:
    """The schedule with mlx's arguments filled in; None where the rate is simply constant."""
    schedule = recipe.lr_schedule or LrSchedule()
    if schedule.name == "constant" and schedule.warmup == 0:
        return None
    rate, length = recipe.learning_rate, float(max(1, updates(recipe) - schedule.warmup))
    arguments: dict[ScheduleName, tuple[float, ...]] = {
        "constant": (rate, rate, length),
        "cosine_decay": (rate, length),
        "linear_schedule": (rate, 0.0, length),
        "exponential_decay": (rate, 0.01 ** (1 / length)),
        "step_decay": (rate, 0.5, float(max(1, length // 4))),
    }
    name: ScheduleName = "linear_schedule" if schedule.name == "constant" else schedule.name
    return msgspec.structs.replace(
        schedule, name=name, arguments=schedule.arguments or arguments[schedule.name]
    )


def rate_text(rate: float) -> str:
    """A learning rate as people write it: 2e-4."""
    if rate == 0 or rate >= 0.1:
        return f"{rate:.4g}"
    mantissa, exponent = f"{rate:.3e}".split("e")
    return f"{mantissa.rstrip('0').rstrip('.')}e{int(exponent)}"


def steps_per_epoch(records: int, batch_size: int) -> int:
    """Steps in which each record is seen once, a row being one record.

    Accumulation changes how many steps make an update, never how many make an epoch.
    """
    return max(1, math.ceil(records / batch_size))


def iters_for_epochs(epochs: float, an_epoch: int) -> int:
    """Steps of so many epochs, an epoch having `an_epoch` of them; at least one step."""
    return max(1, round(an_epoch * epochs))


def epochs_for_iters(iters: int, an_epoch: int) -> float:
    """How often every record is seen in so many steps."""
    return iters / max(1, an_epoch)


def validations(recipe: Recipe, records: int) -> tuple[int, int]:
    """How often a run validates, and on how many batches of so many records."""
    if not records or recipe.val_batches == 0:
        return 0, 0
    batches = math.ceil(records / recipe.batch_size)
    if recipe.val_batches > 0:
        batches = min(batches, recipe.val_batches)
    return math.ceil(recipe.iters / recipe.steps_per_eval), batches


def from_mapping(mapping: Mapping[str, Any], base: Recipe | None = None) -> Recipe:
    """A recipe from mlx-lm's nested keys, over `base` or the defaults.

    Raises `RecipeError` at the first unknown key or refused value.
    """
    recipe = base or Recipe()
    for key, value in mapping.items():
        if key in _NOT_TRAINING or (key in _UNSUPPORTED and not value):
            continue
        if key in _UNSUPPORTED:
            raise RecipeError(
                f"{key} is mlx-lm's and not supported here; remove it from the recipe."
            )
        if key in _SECTIONS:
            if value is not None and not isinstance(value, Mapping):
                raise RecipeError(f"{key} is {value!r}; it must hold keys of its own.")
            for name, inner in (value or {}).items():
                recipe = replace(recipe, _nested(key, str(name)), inner)
        elif value is None and not find(key).optional:
            continue
        else:
            recipe = replace(recipe, key, value)
    return _following_the_rate(recipe)


def _following_the_rate(recipe: Recipe) -> Recipe:
    """Leave out schedule arguments that say what the recipe derives anyway."""
    schedule = recipe.lr_schedule
    if schedule is None or not schedule.arguments:
        return recipe
    names: tuple[ScheduleName, ...] = (schedule.name, "constant")
    for name in names:
        bare = msgspec.structs.replace(schedule, name=name, arguments=())
        candidate = msgspec.structs.replace(recipe, lr_schedule=bare)
        if resolved_schedule(candidate) == schedule:
            return candidate
    return recipe


def _nested(section: str, name: str) -> str:
    if f"{section}.{name}" not in PARAMETERS:
        known = ", ".join(k.rpartition(".")[2] for k in PARAMETERS if k.startswith(section + "."))
        raise RecipeError(f"{section} has no key {name}; it takes {known}.")
    return f"{section}.{name}"


def to_mapping(recipe: Recipe) -> dict[str, Any]:
    """The recipe as mlx-lm's nested keys, with the schedule's arguments filled in."""
    mapping: dict[str, Any] = msgspec.to_builtins(recipe)
    schedule = resolved_schedule(recipe)
    mapping["lr_schedule"] = msgspec.to_builtins(schedule) if schedule else None
    if schedule and mapping["lr_schedule"]["name"] in (
        "cosine_decay",
        "linear_schedule",
        "step_decay",
    ):
        arguments = mapping["lr_schedule"]["arguments"]
        mapping["lr_schedule"]["arguments"] = [*arguments[:-1], int(arguments[-1])]
    return mapping


def apply_settings(recipe: Recipe, settings: Iterable[str]) -> Recipe:
    """The recipe with ``key=value`` settings applied in order. Raises `RecipeError`."""
    for setting in settings:
        key, equals, value = setting.partition("=")
        if not equals:
            raise RecipeError(f"--set {setting} has no =; write it as key=value.")
        recipe = replace(recipe, key.strip(), value)
    return recipe


def load(path: Path, settings: Iterable[str] = ()) -> Recipe:
    """Read a YAML recipe, ours or mlx-lm's. Raises `RecipeError` with the file's name."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not UTF-8 text"
        raise RecipeError(f"{path}: the recipe can't be read ({reason}); check the path.") from None
    mapping = _yaml(text, str(path))
    if not isinstance(mapping, Mapping):
        raise RecipeError(f"{path}: a recipe is a list of key: value lines; this file is not.")
    try:
        recipe = from_mapping({str(key): value for key, value in mapping.items()})
    except RecipeError as error:
        raise RecipeError(f"{path}: {error}") from None
    return apply_settings(recipe, settings)


def dump(recipe: Recipe, adapter_path: str | None = None) -> str:
    """The recipe as YAML that ``mlx_lm lora --config`` accepts."""
    import yaml

    mapping = {"train": True, **to_mapping(recipe)}
    if adapter_path is not None:
        mapping["adapter_path"] = adapter_path
    return yaml.safe_dump(mapping, sort_keys=False, allow_unicode=True)


def save(recipe: Recipe, path: Path) -> None:
    """Write the recipe as YAML. Raises `StorageError`."""
    try:
        path.write_text(dump(recipe), encoding="utf-8")
    except OSError as error:
        raise StorageError(f"{path}: the recipe can't be written ({error.strerror}).") from None


def _yaml(text: str, place: str) -> object:
    import yaml

    try:
        return yaml.safe_load(text)
    except RecursionError:
        raise RecipeError(f"{place}: this is nested too deeply to be a recipe.") from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f" line {mark.line + 1}" if mark else ""
        raise RecipeError(
            f"{place}{line}: this is not valid YAML; check indents and colons."
        ) from None
