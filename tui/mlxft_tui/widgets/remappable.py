"""Bindings with ids, so that keys.toml can give them other keys."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator
from typing import Any, ClassVar

from textual.binding import Binding, BindingsMap, BindingType
from textual.dom import DOMNode


class Remappable:
    """A mixin that names each binding of a class ``keys.action``, as in ``train.pause``.

    `keys` is a class argument; subclasses inherit it. A binding whose action takes parameters
    gives its own `id`, and bindings that share a key share an id: ``id="zoom_in"``.
    """

    key_prefix: ClassVar[str] = ""

    def __init_subclass__(cls, *, keys: str = "", **kwargs: Any) -> None:
        if keys:
            cls.key_prefix = keys
        declared = cls.__dict__.get("BINDINGS")
        if declared:
            named: list[BindingType] = [_with_id(each, cls.key_prefix) for each in declared]
            cls.BINDINGS = named  # type: ignore[attr-defined]
        super().__init_subclass__(**kwargs)


def _with_id(binding: BindingType, prefix: str) -> Binding:
    assert isinstance(binding, Binding), binding
    name = binding.id or binding.action.removeprefix("app.")
    if "." in name:
        return binding
    if not re.fullmatch(r"[a-z]\w*", name):
        raise TypeError(f"{prefix}: the binding of {binding.key} to {binding.action} needs an id.")
    return dataclasses.replace(binding, id=f"{prefix}.{name}")


def bindings_of(node: DOMNode, key: str) -> Iterator[Binding]:
    """What a key is bound to in a node itself, with the user's keys."""
    bindings, keymap = node._bindings, node.app._keymap
    if keymap:
        bindings = BindingsMap.from_keys(dict(bindings.key_to_bindings))
        bindings.apply_keymap(keymap)
    yield from bindings.key_to_bindings.get(key, ())
