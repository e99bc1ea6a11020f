"""A project's recipe as it is edited: each change is in its file at once and can be undone."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import msgspec

from mlxft import recipe as recipes
from mlxft.errors import RecipeError, StorageError
from mlxft.recipe import Recipe, files
from mlxft.recipe.differences import differences
from mlxft.storage.atomic_files import write_atomically
from mlxft.storage.regular_files import read_config, read_regular

UNDO_STEPS: Final = 200
"""Changes that can be undone."""

KEPT_STEPS: Final = 50
"""Changes that can still be undone after the next start."""


class _KeptUndo(msgspec.Struct):
    """Texts of a recipe and of those before its latest changes."""

    recipe: str
    before: list[str]


class RecipeEdits:
    """The recipe on screen, which is also the one in the file.

    A file that was changed elsewhere keeps those changes: only what was edited here is written
    over them. What the file says beside the recipe's values, such as comments, is kept in a copy.
    """

    def __init__(self, file: Path) -> None:
        self.file = file
        self.recipe = Recipe()
        self.problem = ""
        """Why the latest edit isn't in the file; empty if it is."""
        self.kept_copy: Path | None = None
        """Where the file's former text was kept, if it held more than a recipe's values."""
        self._undo: list[Recipe | str] = []
        """Recipes before each change; those of an earlier start as text until they are needed."""
        self._redo: list[Recipe | str] = []
        self._base: tuple[str, Recipe] | None = None
        """The file's text and recipe when last read or written; None for another recipe's file."""

    def open(self, otherwise: Recipe) -> None:
        """Start with the file's recipe, or without a file with another one.

        Raises `RecipeError` if the file can't be read; the next edit replaces it.
        """
        self.start(otherwise)
        if self.file.exists():
            recipe = recipes.load(self.file)
            self._base = _text(self.file) or "", recipe
            self.recipe = recipe

    def start(self, recipe: Recipe) -> None:
        """Start with a recipe that isn't the file's; an edit writes it there."""
        self.recipe, self._base = recipe, None
        self._undo, self._redo = [], []

    @property
    def can_undo(self) -> bool:
        return bool(self._undo)

    @property
    def can_redo(self) -> bool:
        return bool(self._redo)

    def change(self, recipe: Recipe) -> None:
        """Edit the recipe; `problem` says if the file can't be written."""
        if recipe != self.recipe:
            self._remember()
            self.recipe = recipe
            self.write()

    def undo(self) -> None:
        """Go back to the recipe before the latest change."""
        self._go(self._undo, self._redo)

    def redo(self) -> None:
        """Make the change again that was undone."""
        self._go(self._redo, self._undo)

    def _go(self, source: list[Recipe | str], target: list[Recipe | str]) -> None:
        while source:
            before = source.pop()
            try:
                recipe = recipes.loads(before, self.file) if isinstance(before, str) else before
            except RecipeError:
                continue  # Kept by another version.
            target.append(self.recipe)
            self.recipe = recipe
            self.write()
            return

    def keep_undo(self, store: Path) -> None:
        """Keep what can be undone for the next start.

        Raises `OSError`.
        """
        if not self._undo:
            return
        texts = [each if isinstance(each, str) else recipes.dump(each) for each in self._undo]
        kept = _KeptUndo(recipe=recipes.dump(self.recipe), before=texts[-KEPT_STEPS:])
        write_atomically(store, msgspec.json.encode(kept))

    def restore_undo(self, store: Path) -> None:
        """Make what was kept undoable again, unless the recipe is another one now."""
        try:
            kept = msgspec.json.decode(read_regular(store), type=_KeptUndo)
        except (OSError, msgspec.MsgspecError):
            return
        if kept.recipe == recipes.dump(self.recipe):
            self._undo = [*kept.before]

    def _remember(self) -> None:
        self._undo = [*self._undo[1 - UNDO_STEPS :], self.recipe]
        self._redo = []

    def write(self, *, durable: bool = False) -> None:
        """Write the recipe; `durable` also survives a power failure, but takes longer."""
        try:
            text = _text(self.file)
            if text is not None:
                self.recipe = self._merged(text)
            written = recipes.dump(self.recipe)
            if text is not None and text != written and not self._is_own(text):
                self.kept_copy = _keep(self.file, text)
            files.write(written, self.file, durable=durable)
        except OSError as error:
            self.problem = f"{self.file}: the recipe can't be written ({error.strerror})."
        except StorageError as error:
            self.problem = str(error)
        else:
            self._base, self.problem = (written, self.recipe), ""

    def has_other_text(self) -> bool:
        """Whether the file was changed elsewhere; reads it, which a slow disk may delay."""
        try:
            text = _text(self.file)
        except OSError:
            return False
        return self._base is not None and text is not None and text != self._base[0]

    def follow_file(self) -> bool:
        """Take over what was changed in the file elsewhere; whether the recipe is another now."""
        try:
            text = _text(self.file)
            if text is None or self._base is None or text == self._base[0]:
                return False
            merged = self._merged(text)
            self._base = text, recipes.loads(text, self.file)
        except (OSError, RecipeError):
            return False  # Half written; the next look sees the rest.
        if merged == self.recipe:
            return False
        self._remember()
        self.recipe = merged
        return True

    def _merged(self, text: str) -> Recipe:
        """The recipe on top of what the file says now, if that has changed."""
        if self._base is None or text == self._base[0]:
            return self.recipe
        try:
            merged = recipes.loads(text, self.file)
            for key, (_, value) in differences(self._base[1], self.recipe).items():
                merged = recipes.replace(merged, key, value)
        except RecipeError:
            return self.recipe
        return merged

    def _is_own(self, text: str) -> bool:
        """Whether a file's text says no more than the recipe that this object read from it."""
        if self._base is None:
            return False
        try:
            return recipes.dump(recipes.loads(text, self.file)) == text
        except RecipeError:
            return False


def _text(file: Path) -> str | None:
    """The file's text; None where there is none. Raises `OSError` if it can't be read."""
    try:
        return read_config(file, errors="surrogateescape")
    except FileNotFoundError:
        return None


def _keep(file: Path, text: str) -> Path:
    """Keep a text beside its file, under a name that is free or holds it already.

    Raises `StorageError`.
    """
    number = 1
    while True:
        copy = file.with_name(f"{file.name}.orig" + (f"-{number}" if number > 1 else ""))
        before = _text(copy)
        if before is None:
            try:
                write_atomically(copy, text.encode(errors="surrogateescape"), 0o666)
            except OSError as error:
                raise StorageError(
                    f"{copy}: {file.name} can't be kept there ({error.strerror})."
                ) from None
        if before is None or before == text:
            return copy
        number += 1
