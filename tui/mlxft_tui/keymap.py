"""The user's own keys: ids and keys of every binding, and keys.toml that changes them."""

from __future__ import annotations

import difflib
import importlib
import pkgutil
import string
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Final, TypeAlias, TypeVar

from textual.binding import Binding
from textual.keys import Keys
from textual.screen import ModalScreen, Screen
from textual.widgets import Input, TextArea

import mlxft_tui
from mlxft.errors import MlxftError
from mlxft.storage.regular_files import read_config
from mlxft_tui.frame.keys import APP_BINDINGS
from mlxft_tui.frame.screen import AppScreen
from mlxft_tui.widgets.remappable import Remappable, with_ids

Keymap: TypeAlias = dict[str, str]
"""Binding ids with their keys, comma-separated, for `textual.app.App.set_keymap`."""

APP: Final = with_ids(APP_BINDINGS, "app")

_SCREENS: Final = (
    "data",
    "recipe",
    "train",
    "chat",
    "runs",
    "compare",
    "export",
    "doctor",
    "models",
    "sweep",
)
_PACKAGES: Final = ("frame", "widgets", *_SCREENS)
_MODIFIERS: Final = frozenset(("ctrl", "alt", "shift", "super", "hyper", "meta"))


@dataclass(frozen=True)
class RemappableKey:
    """A binding's id with its keys and what it does."""

    id: str
    keys: tuple[str, ...]
    explanation: str


def every_key(keymap: Mapping[str, str]) -> list[RemappableKey]:
    """Each id once, the application's first, with the keys that a keymap gives it."""
    found: dict[str, RemappableKey] = {}
    for binding in (*APP, *(each for cls in _classes() for each in _own_bindings(cls))):
        assert binding.id is not None
        explained = binding.tooltip or binding.description
        known = found.setdefault(binding.id, RemappableKey(binding.id, (), explained))
        if binding.id in keymap:
            keys = keymap[binding.id].split(",")
        else:
            keys = list(dict.fromkeys((*known.keys, *binding.key.split(","))))
        found[binding.id] = replace(known, keys=tuple(_CHARACTERS.get(key, key) for key in keys))
    return list(found.values())


def load(file: Path) -> Keymap:
    """The keymap of a keys.toml, such as ``"train.pause" = "space"`` or ``["space", "f9"]``.

    Raises `MlxftError` for an unknown id, an invalid key, or a key that is taken.
    """
    try:
        entries = dict(_flat(tomllib.loads(read_config(file))))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise MlxftError(f"{file}: the keys can't be read ({error}).") from None
    ids = [each.id for each in every_key({})]
    for entry in entries:
        if entry not in ids:
            close = difflib.get_close_matches(entry, ids, 1)
            hint = f"did you mean {close[0]}?" if close else "mlxft-tui keys lists them."
            raise MlxftError(f"{file}: {entry} is not an id of a key; {hint}")
    keymap = {entry: _keys(file, entry, value) for entry, value in entries.items()}
    _refuse_characters(file, keymap)
    _refuse_conflicts(file, keymap)
    return keymap


def _flat(table: Mapping[str, object], prefix: str = "") -> Iterator[tuple[str, object]]:
    """``[train]`` with ``pause = …`` and ``train.pause = …`` mean ``"train.pause" = …``."""
    for name, value in table.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def _keys(file: Path, entry: str, value: object) -> str:
    written = value if isinstance(value, list) else [value]
    if not written:
        raise MlxftError(f"{file}: {entry} has no key; write one, or remove the entry.")
    return ",".join(_key(file, entry, each) for each in written)


def _key(file: Path, entry: str, text: object) -> str:
    """A key by Textual's name of it, so ``[`` becomes ``left_square_bracket``."""
    if isinstance(text, str):
        *modifiers, name = text.split("+") if len(text) > 1 else [text]
        name = _NAMES.get(name, name)
        known = name in _known_keys() or (len(name) == 1 and name.isprintable())
        if modifiers == ["shift"] and len(name) == 1 and name.isalpha():
            return name.upper()  # What a terminal sends.
        if known and _MODIFIERS.issuperset(modifiers) and len({*modifiers}) == len(modifiers):
            return "+".join((*modifiers, name))
    known_keys = sorted(_known_keys()) if isinstance(text, str) else []
    close = difflib.get_close_matches(str(text), known_keys, 1)
    hint = f"did you mean {close[0]}?" if close else "write it like space, f5 or ctrl+k."
    raise MlxftError(f"{file}: {entry} = {text!r} is not a key; {hint}")


_NAMES: Final[dict[str, str]] = {
    ",": "comma",
    **{
        character: each.key
        for character in string.punctuation.replace(",", "")
        for each in Binding.make_bindings([Binding(character, "")])
    },
}
"""Textual's names of the punctuation characters."""

_CHARACTERS: Final = {name: character for character, name in _NAMES.items()}


@cache
def _known_keys() -> frozenset[str]:
    named = {key.value for key in Keys if "+" not in key.value and not key.value.startswith("<")}
    return frozenset((*named, *_NAMES.values(), *string.ascii_letters, *string.digits))


def _refuse_characters(file: Path, keymap: Keymap) -> None:
    """Raise if a key that acts in a text field is a character, which couldn't be typed then."""
    found = ((cls, binding) for cls in _classes() for binding in _own_bindings(cls))
    typing = {each.id for cls, each in found if each.priority or issubclass(cls, _TEXT_FIELDS)}
    typing |= {each.id for each in APP if each.priority}
    for entry in sorted(keymap.keys() & {*typing, "chat.send"}):
        for key in keymap[entry].split(","):
            if len(key) == 1 or key == "space" or key in _CHARACTERS:
                raise MlxftError(
                    f"{file}: {entry} = {_CHARACTERS.get(key, key)!r} couldn't be typed into a "
                    "text field any more; choose a key such as f5 or ctrl+k."
                )


_TEXT_FIELDS: Final = (Input, TextArea)


def _refuse_conflicts(file: Path, keymap: Keymap) -> None:
    """Raise if a new key already does something else in the same place."""
    for bindings in _places():
        for binding in bindings:
            for key in keymap.get(binding.id or "", "").split(","):
                others = (each.id for each in bindings if key in _mapped(each, keymap))
                if key and (other := next((each for each in others if each != binding.id), None)):
                    written = _CHARACTERS.get(key, key)
                    raise MlxftError(
                        f"{file}: {binding.id} = {written!r} is also the key of {other}; "
                        f"choose another one, or change {other} too."
                    )


def _mapped(binding: Binding, keymap: Keymap) -> list[str]:
    return keymap.get(binding.id or "", binding.key).split(",")


def _places() -> Iterator[list[Binding]]:
    """The bindings that act together: those of the application, a screen or dialog, and a widget in
    it that has the focus."""
    yield [*APP]
    classes = _classes()
    for cls in classes:
        own = _bindings(cls)
        if not issubclass(cls, Screen):
            yield own
            continue
        around = [*own, *APP] if issubclass(cls, AppScreen) else own
        yield around
        for widget in classes:
            if not issubclass(widget, Screen) and _is_in(widget, cls):
                yield [*_bindings(widget), *around]


def _bindings(cls: type) -> list[Binding]:
    """The bindings of a class and its bases."""
    merged: dict[str, list[Binding]] = {}
    for base in reversed(cls.__mro__):
        own = list(_own_bindings(base))
        merged |= {each.key: [o for o in own if o.key == each.key] for each in own}
    return [binding for bindings in merged.values() for binding in bindings]


def _is_in(widget: type, screen: type[Screen[object]]) -> bool:
    """Whether a widget is on a screen: in the module of its dialog, or else in its package."""
    if any(each.__module__ == widget.__module__ for each in _subclasses(ModalScreen)):
        return widget.__module__ == screen.__module__
    package = screen.__module__.rpartition(".")[0]
    return issubclass(screen, AppScreen) and widget.__module__.startswith(f"{package}.")


def _classes() -> list[type[Remappable]]:
    """Every screen, dialog and widget that declares keys, by their modules."""
    for package in _PACKAGES:
        importlib.import_module(f"mlxft_tui.{package}")
        for module in pkgutil.iter_modules([f"{mlxft_tui.__path__[0]}/{package}"]):
            importlib.import_module(f"mlxft_tui.{package}.{module.name}")
    found = {cls for cls in _subclasses(Remappable) if cls.__module__.startswith("mlxft_tui.")}
    return sorted(found, key=lambda cls: (cls.key_prefix, cls.__module__, cls.__name__))


C = TypeVar("C")


def _subclasses(cls: type[C]) -> Iterator[type[C]]:
    for each in cls.__subclasses__():
        yield each
        yield from _subclasses(each)


def _own_bindings(cls: type) -> Iterable[Binding]:
    """The bindings that a class itself declares, one per key."""
    declared = cls.__dict__.get("BINDINGS", ()) if issubclass(cls, Remappable) else ()
    return Binding.make_bindings(declared)
