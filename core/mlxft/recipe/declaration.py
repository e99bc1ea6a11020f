"""What a training parameter declares about itself, and how declarations are read."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from types import NoneType, UnionType
from typing import Any, Final, Literal, Union, get_args, get_origin, get_type_hints

import msgspec

from mlxft.errors import RecipeError

_SHOWN_CHARACTERS: Final = 40
"""Of a text that is too long."""

Group = Literal[
    "model",
    "data",
    "adapter",
    "loss",
    "optimization",
    "schedule",
    "memory",
    "validation and saving",
]
GROUPS: Final[tuple[Group, ...]] = get_args(Group)

Scale = Literal["one", "ten", "double", "one_two_five", "tenth"]
"""How left and right step a number."""

MlxLm = Literal["flag", "switch", "config", "always"]
"""How mlx-lm takes a parameter: a flag with a value, one without, or only in its config file;
or it always does what the parameter turns on."""

Resume = Literal["fixed", "reorders", "rate", "free"]
"""What another value means for a resumed run: refused, another order of the records, a learning
rate that replaces the one set during the run, or nothing."""

Tokens = Literal["tokenizer", "tokens", "truncation", "batches"]
"""What a parameter decides about the data: the tokenizer, a record's tokens, how many of them are
kept, or how records form batches."""

Kind = Literal["int", "float", "bool", "choice", "text", "texts", "numbers", "mapping"]

Scalar = str | int | float | bool | None
Value = Scalar | tuple[str, ...] | tuple[float, ...] | dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Effect:
    """What a larger value, or each choice, does; empty where there is nothing worth knowing."""

    memory: str = ""
    speed: str = ""
    quality: str = ""

    @property
    def parts(self) -> list[tuple[str, str]]:
        """What is affected, and how."""
        named = (("memory", self.memory), ("speed", self.speed), ("quality", self.quality))
        return [(name, how) for name, how in named if how]

    @property
    def sentence(self) -> str:
        """All effects in one line."""
        listed = "; ".join(f"{name}: {how.replace(';', ',')}" for name, how in self.parts)
        return f"{listed[0].upper()}{listed[1:]}." if listed else ""


@dataclass(frozen=True, kw_only=True)
class Reduction:
    """How to lower a parameter to save memory; the lowest `order` costs the result least.

    A number is halved down to `smallest`; another value is replaced by what `instead` has for it.
    """

    order: int
    smallest: int | None = None
    instead: Mapping[Any, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class OtherName:
    """mlx-lm's parameter that says some of the values of one of ours, and how it says them."""

    key: str
    values: Mapping[Any, Any]
    """Its values by ours."""

    def ours(self, value: object) -> Any:
        """Our value for one of its; an unknown one is unchanged."""
        text = str(value).strip().lower()
        spelled = {"yes": "true", "on": "true", "no": "false", "off": "false"}.get(text, text)
        found = (ours for ours, its in self.values.items() if str(its).lower() == spelled)
        return next(found, value)


@dataclass(frozen=True, kw_only=True)
class Declared:
    """All that the project knows of a parameter beyond its name, type and default."""

    group: Group
    help: str
    effect: Effect = Effect()
    step: Scale | None = None
    """None for a value that can only be typed."""
    minimum: float | None = None
    maximum: float | None = None
    finest: float = 1e-7
    """The smallest value above 0 that stepping by 1, 2 and 5 reaches."""
    unit: str = ""
    losses: tuple[str, ...] = ()
    """The losses that it matters to; empty for all."""
    meanings: Mapping[str, str] = field(default_factory=dict)
    """Values, as they are shown, that stand for something else."""
    example: str = ""
    """How to write a mapping."""
    check: Callable[[Any], None] | None = None
    """Raises `RecipeError` for a value that its type and range allow but that makes no sense."""
    mlx_lm: MlxLm | None = None
    """None for what mlx-lm doesn't have."""
    other_name: OtherName | None = None
    """What mlx-lm, and recipes written before, call it; files keep that name where it suffices."""
    resume: Resume = "free"
    before: Any = None
    """How runs trained that were made before the parameter existed; None for as by default."""
    changes_tokens: Tokens | None = None
    reduction: Reduction | None = None
    rule: str = ""
    """What a value must be, where its type doesn't say it."""
    left_out: bool = False
    """Whether files leave the parameter out while it has its default."""
    kept_by_presets: bool = False
    """Whether it says what to train on what, so that a preset leaves it as it is."""


@dataclass(frozen=True, kw_only=True)
class Parameter:
    """A declared parameter as the form, the command line and the documentation see it."""

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
    def section(self) -> str:
        """The first part of the key: the name under which a YAML file holds it."""
        return self.key.partition(".")[0]

    @property
    def mlx_lm_key(self) -> str:
        """The key that mlx-lm takes it by."""
        return self.declared.other_name.key if self.declared.other_name else self.key

    @property
    def steppable(self) -> bool:
        """Whether left and right change the value."""
        return self.kind in ("bool", "choice") or self.declared.step is not None

    @property
    def short_rule(self) -> str:
        """The rule without the limit of a path, which few texts come near."""
        return "text" if self.kind == "text" and not self.declared.rule else self.rule

    @property
    def rule(self) -> str:
        """What a value must be, as the end of a sentence."""
        if self.declared.rule:
            return self.declared.rule
        low, high = self.declared.minimum, self.declared.maximum
        span = f" from {low} to {high}" if low is not None and high is not None else ""
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
                rule = "text with at most 255 bytes between slashes"
            case "texts":
                rule = "a list of names"
            case "numbers":
                rule = "a list of numbers"
            case "mapping":
                rule = f"a mapping, as {self.declared.example}"
        return rule


def refusal(key: str, value: object, rule: str) -> RecipeError:
    """The error of a value, of which a long text is shown by its beginning."""
    if isinstance(value, str) and len(value) > _SHOWN_CHARACTERS:
        value = f"{value[:_SHOWN_CHARACTERS]}…"
    shown = "empty" if value in ("", None) else f"{value!r}"
    return RecipeError(f"{key} is {shown}; it must be {rule}.")


def sections_of(struct: type[msgspec.Struct]) -> dict[str, type[msgspec.Struct]]:
    """The fields that hold parameters of their own, by name."""
    hints = get_type_hints(struct).items()
    return {name: nested for name, hint in hints if (nested := _nested(hint)) is not None}


def _nested(hint: Any) -> type[msgspec.Struct] | None:
    parts = get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,)
    structs = (each for each in parts if isinstance(each, type))
    return next((each for each in structs if issubclass(each, msgspec.Struct)), None)


def parameters_of(struct: type[msgspec.Struct], prefix: str = "") -> Iterator[Parameter]:
    """Every parameter that a struct and its sections declare, in order."""
    defaults, sections = struct(), sections_of(struct)
    for name, hint in get_type_hints(struct, include_extras=True).items():
        if name in sections:
            yield from parameters_of(sections[name], f"{name}.")
            continue
        kind, choices, optional = _kind(hint.__origin__)
        yield Parameter(
            key=prefix + name,
            kind=kind,
            default=getattr(defaults, name),
            declared=hint.__metadata__[0],
            annotation=hint.__origin__,
            choices=choices,
            optional=optional,
        )


def _kind(annotation: Any) -> tuple[Kind, tuple[str, ...], bool]:
    if annotation == int | str:
        return "text", (), False
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
