"""Recipes as YAML files, ours or mlx-lm's."""

from __future__ import annotations

import stat
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import msgspec

from mlxft.errors import RecipeError, StorageError
from mlxft.recipe.hub_data import from_mlx_lm
from mlxft.recipe.parameters import PARAMETERS, SECTIONS, Recipe, find, in_our_terms
from mlxft.recipe.schedule import resolved_schedule
from mlxft.recipe.sections import ScheduleName
from mlxft.recipe.trackers import OF_MLX_LM, tracker_names
from mlxft.recipe.values import replace
from mlxft.recipe.yaml_text import parse_yaml, write_yaml
from mlxft.storage.atomic_files import write_atomically
from mlxft.storage.paths import expanded
from mlxft.storage.regular_files import read_config
from mlxft.text.printable import printable_line

_NOT_TRAINING: Final = frozenset({"train", "config", "adapter_path", "test_batches"})
"""mlx-lm keys that don't affect training and are ignored."""

_FEATURES: Final = {
    "prompt_feature": "prompt",
    "completion_feature": "completion",
    "chat_feature": "messages",
    "text_feature": "text",
}
"""mlx-lm's keys for the fields of a record, and the names in `columns` that they stand for."""


def from_mapping(mapping: Mapping[str, Any], base: Recipe | None = None) -> Recipe:
    """A recipe from mlx-lm's nested keys, on top of `base` or the defaults.

    Raises `RecipeError` for the first unknown key or invalid value.
    """
    recipe = base or Recipe()
    for key, value in _translated(mapping).items():
        if key in SECTIONS:
            if value is not None and not isinstance(value, Mapping):
                raise RecipeError(f"{key} is {value!r}; it must be a mapping of keys.")
            for name, inner in (value or {}).items():
                recipe = replace(recipe, _nested(key, str(name)), inner)
        elif value is None and not find(key).optional:
            continue
        else:
            recipe = replace(recipe, key, value)
    return _without_derived_arguments(recipe)


def _translated(mapping: Mapping[str, Any]) -> dict[str, Any]:
    """The mapping without mlx-lm's keys that have another form here."""
    if mapping.get("test"):
        raise RecipeError(
            "test is true; set it to false and score the test set of the finished run with "
            "mlxft-tui evaluate."
        )
    foreign = _NOT_TRAINING | _FEATURES.keys() | {"test", "hf_dataset"}
    ours = dict(in_our_terms(key, value) for key, value in mapping.items() if value is not None)
    named = {key: value for key, value in mapping.items() if in_our_terms(key, value)[0] == key}
    kept = {key: value for key, value in {**ours, **named}.items() if key not in foreign}
    hub = mapping.get("hf_dataset") or {}
    if hub:
        kept["data"] = _hub_data(hub)
    columns = {**_columns(mapping), **_columns(hub)}
    if columns:
        kept["columns"] = {**columns, **(kept.get("columns") or {})}
    return kept


def _columns(mapping: Mapping[str, Any]) -> dict[str, str]:
    """The renamed fields among mlx-lm's keys."""
    named = {name: mapping.get(key) for key, name in _FEATURES.items()}
    return {name: str(field) for name, field in named.items() if field and field != name}


def _hub_data(hub: Any) -> str:
    """mlx-lm's hf_dataset as `data`. Raises `RecipeError` for what `data` can't say."""
    if not isinstance(hub, Mapping) or not isinstance(hub.get("path"), str):
        raise RecipeError(
            "hf_dataset must be one mapping with a path here; put several datasets into one "
            "train.jsonl and set data to its folder."
        )
    return str(from_mlx_lm(hub, frozenset(_FEATURES)))


def _without_derived_arguments(recipe: Recipe) -> Recipe:
    """Drop schedule arguments that equal those derived from the learning rate."""
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
    mapping = dict(_in_mlx_lms_terms(recipe))
    schedule = resolved_schedule(recipe)
    mapping["lr_schedule"] = msgspec.to_builtins(schedule) if schedule else None
    if schedule:
        counted = _UPDATES_ARGUMENT.get(schedule.name)
        mapping["lr_schedule"]["arguments"] = [
            int(value) if at == counted and value.is_integer() else value
            for at, value in enumerate(schedule.arguments)
        ]
    return mapping


def _in_mlx_lms_terms(recipe: Recipe) -> Iterator[tuple[str, Any]]:
    """Keys and values, by the name and value that mlx-lm has for a parameter, if any."""
    for key, value in msgspec.to_builtins(recipe).items():
        parameter = PARAMETERS.get(key)
        if parameter and parameter.declared.left_out and value == parameter.default:
            continue
        other = parameter.declared.other_name if parameter else None
        if other is not None and value in other.values:
            yield other.key, other.values[value]
        else:
            yield key, value


def to_mlx_lm(recipe: Recipe) -> dict[str, Any]:
    """The same with what mlx-lm knows: one factor, the scale that it applies, and two services."""
    mapping = to_mapping(recipe)
    reported = [each for each in tracker_names(recipe.report_to) if each in OF_MLX_LM]
    mapping["report_to"] = ",".join(reported) or None
    del mapping["lora_parameters"]["use_rslora"]
    mapping["lora_parameters"]["scale"] = recipe.lora_parameters.factor
    return mapping


_UPDATES_ARGUMENT: Final[Mapping[ScheduleName, int]] = {
    "cosine_decay": 1,
    "linear_schedule": 2,
    "step_decay": 2,
}
"""Which argument of a schedule is a number of updates."""


def apply_settings(recipe: Recipe, settings: Iterable[str]) -> Recipe:
    """The recipe with ``key=value`` settings applied in order. Raises `RecipeError`."""
    for key, value in parsed_settings(settings).items():
        recipe = replace(recipe, key, value)
    return recipe


def parsed_settings(settings: Iterable[str]) -> dict[str, str]:
    """``key=value`` settings by full key; the last of a key counts. Raises `RecipeError`."""
    found: dict[str, str] = {}
    for setting in settings:
        key, equals, value = setting.partition("=")
        if not equals:
            raise RecipeError(f"--set {setting} has no =; write it as key=value.")
        key, ours = in_our_terms(key.strip(), value)
        found[find(key).key] = str(ours)
    return found


def from_run(mapping: Mapping[str, Any]) -> Recipe:
    """The recipe that a run recorded, where each key it lacks has the value it trained with.

    Raises `RecipeError` like `from_mapping`.
    """
    return from_mapping(mapping, _earlier_defaults())


def _earlier_defaults() -> Recipe:
    recipe = Recipe()
    for key, parameter in PARAMETERS.items():
        if parameter.declared.before is not None:
            recipe = replace(recipe, key, parameter.declared.before)
    return recipe


def load_of_run(path: Path) -> Recipe:
    """Read the recipe in a run's folder. Raises `RecipeError` with the file's name."""
    return _load(path, from_run)


def load(path: Path, settings: Iterable[str] = ()) -> Recipe:
    """Read a YAML recipe, ours or mlx-lm's. Raises `RecipeError` with the file's name."""
    return apply_settings(_load(path, from_mapping), settings)


def _foreign_adapter_path(path: Path) -> str | None:
    """Where mlx-lm would save a recipe's adapter, unless that is the recipe's own folder."""
    named = _mapping(path).get("adapter_path")
    if not isinstance(named, str) or expanded(named).resolve() == path.resolve().parent:
        return None
    return named


def loads(text: str, path: Path) -> Recipe:
    """Read a recipe from the text of a file. Raises `RecipeError` with the file's name."""
    return _converted(_mapping_of(text, path), path, from_mapping)


def differences_from_mlx_lm(path: Path, adapters: Path) -> list[str]:
    """What a run does otherwise than mlx-lm would with this config, one sentence each.

    Runs save their adapters in folders of their own in `adapters`.
    """
    notes = []
    if (named := _foreign_adapter_path(path)) is not None:
        notes.append(
            f"adapter_path {printable_line(named)} isn't used; each run saves its adapter in a "
            f"folder of its own in {adapters}."
        )
    hub = _mapping(path).get("hf_dataset")
    if isinstance(hub, Mapping) and hub.keys().isdisjoint({"train_split", "valid_split"}):
        notes.append(
            "hf_dataset names no splits, so the first 80% of train are trained and its last 10% "
            f"validated, as mlx-lm does; set data to {printable_line(str(hub.get('path')))} to "
            "train all of it and use its own validation split."
        )
    return notes


def _load(path: Path, convert: Callable[[Mapping[str, Any]], Recipe]) -> Recipe:
    return _converted(_mapping(path), path, convert)


def _converted(
    mapping: Mapping[str, Any], path: Path, convert: Callable[[Mapping[str, Any]], Recipe]
) -> Recipe:
    try:
        return convert(mapping)
    except RecipeError as error:
        raise RecipeError(f"{path}: {error}") from None


def _mapping(path: Path) -> dict[str, Any]:
    """A file's keys and values. Raises `RecipeError`."""
    try:
        text = read_config(path)
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not UTF-8 text"
        raise RecipeError(f"{path}: the recipe can't be read ({reason}); check the path.") from None
    return _mapping_of(text, path)


def _mapping_of(text: str, path: Path) -> dict[str, Any]:
    mapping = parse_yaml(text, str(path))
    if not isinstance(mapping, Mapping):
        raise RecipeError(f"{path}: this is not a recipe; it must consist of key: value lines.")
    return {str(key): value for key, value in mapping.items()}


def dump(recipe: Recipe, adapter_path: str | None = None) -> str:
    """The recipe as YAML that ``mlx_lm lora --config`` accepts."""
    mapping = {"train": True, **to_mapping(recipe)}
    if adapter_path is not None:
        mapping["adapter_path"] = adapter_path
    return write_yaml(mapping)


def save(recipe: Recipe, path: Path, *, durable: bool = True) -> None:
    """Replace the file by the recipe as YAML. Raises `StorageError`."""
    write(dump(recipe), path, durable=durable)


def write(text: str, path: Path, *, durable: bool = True) -> None:
    """Replace the file by a recipe's text. Raises `StorageError`."""
    path = path.resolve()  # A link stays one.
    try:
        mode = stat.S_IMODE(path.stat().st_mode) if path.exists() else 0o666
        write_atomically(path, text.encode(), mode, durable=durable)
    except OSError as error:
        raise StorageError(f"{path}: the recipe can't be written ({error.strerror}).") from None
