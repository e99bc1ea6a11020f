"""Bindings with ids, so that keys.toml can give them other keys."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable, Iterator
from typing import Any, ClassVar

from textual.app import App
from textual.binding import ActiveBinding, Binding, BindingsMap, BindingType
from textual.dom import DOMNode
from textual.screen import Screen


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
            cls.BINDINGS = with_ids(declared, cls.key_prefix)  # type: ignore[attr-defined]
        super().__init_subclass__(**kwargs)


def with_ids(bindings: Iterable[BindingType], prefix: str) -> list[Binding]:
    """The bindings, each with a full id."""
    return [_with_id(each, prefix) for each in bindings]


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


def keys_of(node: DOMNode, binding_id: str, default: str) -> list[str]:
    """The keys of a binding that a node handles itself."""
    return node.app._keymap.get(binding_id, default).split(",")


def in_declared_order(active: Iterable[ActiveBinding]) -> list[ActiveBinding]:
    """Bindings of each node as its class declares them; Textual moves remapped ones to the end."""
    found = list(active)
    if found and not found[0].node.app._keymap:
        return found
    nodes = list(dict.fromkeys(each.node for each in found))
    return sorted(found, key=lambda each: (nodes.index(each.node), _declared_at(each)))


def key_hints(screen: Screen[Any]) -> str:
    """The keys of a dialog and of its focused pane with their labels, in one line."""
    hints: dict[str, str] = {}
    for node, binding, enabled, _ in in_declared_order(screen.active_bindings.values()):
        if binding.show and binding.description and enabled and not isinstance(node, App):
            display = screen.app.get_key_display(binding)
            hints.setdefault(binding.action, f"{display} {binding.description.lower()}")
    return "  ".join(hints.values())


def shown_key(node: DOMNode, binding_id: str, default: str) -> str:
    """How the key of a binding is written, whose default is given."""
    return node.app.get_key_display(Binding(keys_of(node, binding_id, default)[0], ""))


def with_keys(node: DOMNode, text: str) -> str:
    """The text with ``{id}`` replaced by the key of that binding of a node or an ancestor.

    ``{id=default}`` is the key of another screen's binding, whose default is given.
    """

    def key(found: re.Match[str]) -> str:
        if found[2]:
            return shown_key(node, found[1], found[2])
        for each in node.ancestors_with_self:
            for binding in each._bindings.key_to_bindings.values():
                if default := next((own.key for own in binding if own.id == found[1]), None):
                    return shown_key(node, found[1], default)
        return found[0]

    return re.sub(r"\{([a-z]+\.[a-z_.]+)(?:=([^}]+))?\}", key, text)


def _declared_at(active: ActiveBinding) -> int:
    ids = [each.id for each in active.node.BINDINGS if isinstance(each, Binding)]
    return ids.index(active.binding.id) if active.binding.id in ids else -1
