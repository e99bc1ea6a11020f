"""Write the pages that are made from the code: ``python docs/render.py``, or ``make docs``."""

from __future__ import annotations

import importlib
import inspect
import json
import pkgutil
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final, Literal, get_args, get_origin, get_type_hints

import msgspec
from textual.binding import Binding

from mlxft.export.types import PEFT_FAMILIES
from mlxft.recipe.reference import reference
from mlxft.runs import events
from mlxft.telemetry.sample import Sample
from mlxft_tui.app import MlxftApp
from mlxft_tui.frame.keys import SCREENS
from mlxft_tui.frame.screen import AppScreen
from mlxft_tui.frame.sheet import Sheet

DOCS: Final = Path(__file__).parent

_SIGNS: Final = {
    "left": "←",
    "right": "→",
    "up": "↑",
    "down": "↓",
    "escape": "esc",
    "pageup": "pgup",
    "pagedown": "pgdn",
    "question_mark": "?",
    "exclamation_mark": "!",
    "slash": "/",
    "comma": ",",
    "full_stop": ".",
    "plus": "+",
    "minus": "-",
    "equals_sign": "=",
    "left_square_bracket": "[",
    "right_square_bracket": "]",
}


# The journal's events

_EVENTS_INTRODUCTION: Final = f"""\
`events.jsonl` in a run's folder holds one JSON object per line, in the order in which things
happened. `event` names its kind. This is version {events.SCHEMA} of the schema. Readers must skip
lines that they can't decode (the last one may be cut off) and events that they don't know.

Memory is bytes, times are seconds, loss is nats per trained token. A field with a default may be
missing.

```sh
mlxft-tui attach demo-lora-1 --json
```"""


def events_page() -> str:
    """Every event with its fields."""
    parts = [
        "# Journal events",
        "<!-- Generated from core/mlxft/runs/events.py by docs/render.py. -->",
        _EVENTS_INTRODUCTION,
        "## In every event",
        "`seq` numbers the events of a run from 1, `time` is seconds since 1970.",
        _fields(events.Event),
    ]
    for each in get_args(events.AnyEvent):
        parts += [f"## `{_tag(each)}`", _about(each), _fields(each, beyond=events.Event)]
    parts += ["## Sample", _about(Sample), _fields(Sample)]
    return "\n\n".join(parts) + "\n"


def _about(kind: type[msgspec.Struct]) -> str:
    """The docstring, a paragraph a line."""
    paragraphs = (inspect.getdoc(kind) or "").split("\n\n")
    return "\n\n".join(" ".join(each.split()) for each in paragraphs)


def _fields(kind: type[msgspec.Struct], beyond: type[msgspec.Struct] | None = None) -> str:
    """A table of the fields that a struct adds to those of another."""
    hints = get_type_hints(kind)
    known = {each.name for each in msgspec.structs.fields(beyond)} if beyond else set()
    rows = [
        f"| `{each.name}` | {_type(hints[each.name])} | {_default(each)} |"
        for each in msgspec.structs.fields(kind)
        if each.name not in known
    ]
    return "\n".join(["| field | type | default |", "|---|---|---|", *rows])


def _tag(kind: type[msgspec.Struct]) -> str:
    return str(kind.__struct_config__.tag)


def _type(hint: Any) -> str:
    """A field's type in JSON's words."""
    known = {int: "integer", float: "number", str: "string", bool: "boolean"}
    if hint in known:
        return known[hint]
    if hint is type(None):
        return "null"
    if hint is Sample:
        return "[sample](#sample)"
    if get_origin(hint) is Literal:
        return " ".join(f"`{each}`" for each in get_args(hint))
    if get_origin(hint) is dict:
        return "object"
    return " or ".join(_type(each) for each in get_args(hint))


def _default(field: msgspec.structs.FieldInfo) -> str:
    if field.required:
        return ""
    value = field.default if field.default is not msgspec.NODEFAULT else field.default_factory()
    return f"`{msgspec.json.encode(value).decode()}`"


# The keys

_KEYS_INTRODUCTION: Final = """\
Arrows and `h` `j` `k` `l` move in every list. While you type, digits are text; `F1` to `F5` always
switch screens. `?` shows the keys of the focused pane, `ctrl+p` finds screens and themes by name.
The mouse works and is never needed.

## Your own keys

`keys.toml` in `~/.config/mlxft` (`~/Library/Application Support/mlxft` on macOS) gives an id other
keys. An unknown id, an invalid key and a key that is already taken are errors at the start.

```toml
"train.pause" = "f9"
"data.next_match" = ["n", "ctrl+g"]
```

`mlxft-tui keys` lists the ids with the keys that apply now."""


def keys_page() -> str:
    """Every key by the screen and the pane where it acts."""
    parts = [
        "# Keys",
        "<!-- Generated from the bindings by docs/render.py. -->",
        _KEYS_INTRODUCTION,
        "## Everywhere",
        _table(Binding.make_bindings(MlxftApp.BINDINGS)),
    ]
    shared = (
        ("compare", "Comparing runs"),
        ("models", "Choosing a model"),
        ("export", "Exporting a run"),
        ("widgets", "Lists and input lines"),
        ("frame", "Questions and help"),
    )
    for name, title in (*((each.mode, each.title) for each in SCREENS), *shared):
        parts.append(f"## {title}")
        for words, bindings in _panes(name):
            parts += [f"### {words}"] if words else []
            parts.append(_table(bindings))
    return "\n\n".join(parts) + "\n"


def screen_keys(name: str) -> set[str]:
    """Every key that acts on a screen, in its panes or its dialogs, as pages write it."""
    bindings = [each for _, found in _panes(name) for each in found]
    return {key for each in bindings for key in keys_of(each)}


def keys_of(binding: Binding) -> list[str]:
    """The keys of a binding, as pages write them."""
    return [shown_key(each) for each in binding.key.split(",")]


def shown_key(key: str) -> str:
    """A key of Textual's as pages write it: ``⇧←`` for shift+left, ``F1``, ``[``."""
    *modifiers, last = key.strip().split("+")
    last = last.upper() if re.fullmatch(r"f\d+", last) else _SIGNS.get(last, last)
    return "".join("⇧" if each == "shift" else f"{each}+" for each in modifiers) + last


def _panes(name: str) -> Iterator[tuple[str, list[Binding]]]:
    """The bindings that a package's classes declare, by name; the screen's own come first."""
    package = importlib.import_module(f"mlxft_tui.{name}")
    modules = sorted(each.name for each in pkgutil.iter_modules(package.__path__))
    for module in sorted(modules, key=lambda each: each != "screen"):
        path = f"{package.__name__}.{module}"
        for kind in vars(importlib.import_module(path)).values():
            if inspect.isclass(kind) and kind.__module__ == path and vars(kind).get("BINDINGS"):
                words = "" if issubclass(kind, AppScreen) else _words(kind.__name__)
                found = Binding.make_bindings(vars(kind)["BINDINGS"])
                # Those without an id are a text line's usual ones, which keys.toml can't change.
                if named := [each for each in found if each.id]:
                    yield words, named


def _words(class_name: str) -> str:
    """``ProblemList`` as "Problem list"."""
    if class_name == Sheet.__name__:
        return "Every dialog"
    words = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", class_name.removesuffix("Screen"))
    return words.capitalize()


def _table(bindings: Iterable[Binding]) -> str:
    """A line for each action, with all of its keys."""
    rows: dict[str, list[Binding]] = {}
    for each in bindings:
        rows.setdefault(each.action, []).append(each)
    return "\n".join(["| key | | id |", "|---|---|---|", *map(_row, rows.values())])


def _row(alike: Sequence[Binding]) -> str:
    keys = dict.fromkeys(key for each in alike for key in keys_of(each))
    explained = next((each.tooltip for each in alike if each.tooltip), alike[0].description)
    return f"| {' '.join(f'`{key}`' for key in keys)} | {explained} | `{alike[0].id}` |"


# The model families

_FAMILIES_INTRODUCTION: Final = """\
Every `model_type` that mlx-lm 0.32.2 loads, tried with tiny random models on a CPU: does LoRA train
it with mlx-lm's losses, is its memory known or guessed, are blocks recomputed with the same
gradients, and can records be packed into rows. The tests measure each line again.

A guessed estimate reads the config as far as it can and says that it is a guess; a run corrects the
next one. Where `grad_checkpoint` or `packing` can't be used, the run says so before its first step:
the first is turned off with a warning, the second is refused. "One row" means `batch_size` 1, and
"with keys" that a run with the default layers is refused with a sentence that says which to set.

Not in the table: `olmo` needs the package ai2-olmo, without which mlx-lm's code ends the process
(the run says so), `muse_spark` needs Metal, `prism_hadamard_qwen35` holds packed layers that mlx-lm
can't adapt, and `phi3small` was not tried.

The start of a run checks the model at hand in the same way, so a family that mlx-lm adds later is
trained as well, or is refused with a reason."""


def families_page() -> str:
    """What can be done with each model family."""
    rows = json.loads((DOCS / "families.json").read_text(encoding="utf-8"))
    parts = [
        "# Model families",
        "<!-- Generated from docs/families.json and docs/exports.json by docs/render.py. -->",
        _FAMILIES_INTRODUCTION,
        "\n".join(
            [
                "| model_type | trains | memory | grad_checkpoint | packing | |",
                "|---|---|---|---|---|---|",
                *(_family_row(family, row) for family, row in rows.items()),
            ]
        ),
        _EXPORTS_INTRODUCTION,
        "\n".join(_exports()),
    ]
    return "\n\n".join(parts) + "\n"


_EXPORTS_INTRODUCTION: Final = """\
## Exports
A tiny random model of each family and a LoRA adapter on it, written and read back: every array must
come back as it was, except that norms of Gemma, to which GGUF adds one, may differ in the last
digit. "From GGUF" is such a file as a recipe's `model`, which must compute the same. The tests
measure each line again. The last column says whether PEFT's logits on torch were
compared with those here, too. Families that aren't listed can be exported as `mlx` and `adapter`,
and as `peft` with a warning that nobody has compared them."""


def _exports() -> Iterator[str]:
    yield (
        "| model_type | `gguf` | from GGUF | `gguf-adapter` | `peft` | `peft`, attention only "
        "| compared |"
    )
    yield "|---|---|---|---|---|---|---|"
    rows = json.loads((DOCS / "exports.json").read_text(encoding="utf-8"))
    for family, row in rows.items():
        forms = ("gguf", "gguf_import", "gguf_adapter", "peft", "peft_attention")
        cells = [row[each] for each in forms]
        compared = "yes" if family in PEFT_FAMILIES else "no"
        yield " | ".join([f"| `{family}`", *cells, f"{compared} |"])


def _family_row(family: str, row: dict[str, Any]) -> str:
    notes = ". ".join(row["notes"]).replace("|", "\\|")
    if not row["trains"]:
        return f"| `{family}` | **no** | {row['estimate']} | | | {notes} |"
    checkpointing = "yes" if row["checkpointing"] else "**off**"
    packing = row["packing"] if row["packing"] == "yes" else f"**{row['packing']}**"
    trains = "**with keys**" if notes.startswith("Only with lora_parameters.keys") else "yes"
    return f"| `{family}` | {trains} | {row['estimate']} | {checkpointing} | {packing} | {notes} |"


PAGES: Final[dict[str, Callable[[], str]]] = {
    "events.md": events_page,
    "keys.md": keys_page,
    "model-families.md": families_page,
    "recipe.md": reference,
}
"""Each generated page with what makes its text."""


if __name__ == "__main__":
    for name, text in PAGES.items():
        (DOCS / name).write_text(text(), encoding="utf-8")
