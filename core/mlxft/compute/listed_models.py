"""Transformers lists its models whenever it is imported, by reading their thousand files.

What it has found is kept in the cache, so that an engine's start needn't read them again.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from types import ModuleType
from typing import Any, Final

import msgspec

from mlxft.storage.atomic_files import write_atomically
from mlxft.storage.paths import cache_dir

_LISTING_MODULE: Final = "transformers.utils.import_utils"
_LISTING: Final = "define_import_structure"

Models = dict[frozenset[str], dict[str, set[str]]]
"""The names that each module has, by what these need to be installed."""

List = Callable[..., Models]
"""What transformers lists a folder's modules with; takes the folder and a prefix of the modules."""


@contextmanager
def models_listed_once() -> Iterator[None]:
    """Within this transformers, when it is imported, lists its models once or not at all.

    By itself it would do it twice: its cache holds 128 folders.
    """
    finder = _Finder()
    sys.meta_path.insert(0, finder)
    try:
        yield
    finally:
        sys.meta_path.remove(finder)
        finder.restore()


class _Finder:
    """Imports the module that lists models, and replaces what lists them."""

    def __init__(self) -> None:
        self._replaced: tuple[ModuleType, List] | None = None

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """As Python's import calls it."""
        if name != _LISTING_MODULE:
            return None
        spec = PathFinder.find_spec(name, path, target)
        if spec is not None and spec.loader is not None:
            load = spec.loader.exec_module

            def load_and_replace(module: ModuleType) -> None:
                load(module)
                self._replace(module)

            setattr(spec.loader, "exec_module", load_and_replace)  # noqa: B010
        return spec

    def _replace(self, module: ModuleType) -> None:
        own = getattr(module, _LISTING, None)
        if own is not None and module.__file__:
            folder = Path(module.__file__).parents[1] / "models"
            setattr(module, _LISTING, KeptListing(own, folder))
            self._replaced = module, own

    def restore(self) -> None:
        """Have transformers list by itself again, as it does for a model's own folder."""
        if self._replaced is not None:
            module, own = self._replaced
            setattr(module, _LISTING, own)


class _Kept(msgspec.Struct, frozen=True):
    folder: str
    changed: int
    models: list[tuple[list[str], dict[str, list[str]]]]


class KeptListing:
    """Lists the folder of all models as `own` does, from the cache where that has it."""

    def __init__(self, own: List, folder: Path) -> None:
        self._own, self._folder = own, folder
        self._models: Models | None = None

    def __call__(self, path: Any, prefix: str | None = None) -> Models:
        """The same as `own`; whoever calls may change it."""
        if Path(path) not in (self._folder, self._folder / "__init__.py"):
            return self._own(path, prefix)
        if self._models is None:
            self._models = self._kept() or self._listed()
        before = f"{prefix}." if prefix else ""
        return {
            needed: {f"{before}{name}": set(objects) for name, objects in modules.items()}
            for needed, modules in self._models.items()
        }

    def _listed(self) -> Models:
        found = self._own(self._folder)
        models = [
            (sorted(needed), {name: sorted(objects) for name, objects in modules.items()})
            for needed, modules in found.items()
        ]
        with contextlib.suppress(OSError):
            _file().parent.mkdir(parents=True, exist_ok=True)
            kept = _Kept(str(self._folder), self._changed(), models)
            write_atomically(_file(), msgspec.json.encode(kept), durable=False)
        return found

    def _kept(self) -> Models | None:
        with contextlib.suppress(OSError, ValueError):
            kept = msgspec.json.decode(_file().read_bytes(), type=_Kept)
            if (kept.folder, kept.changed) == (str(self._folder), self._changed()):
                return {
                    frozenset(needed): {name: set(objects) for name, objects in modules.items()}
                    for needed, modules in kept.models
                }
        return None

    def _changed(self) -> int:
        """When this version was installed."""
        return max(each.stat().st_mtime_ns for each in (self._folder, self._folder / "__init__.py"))


def _file() -> Path:
    return cache_dir() / "transformers-models.json"
