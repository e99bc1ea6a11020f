"""What can be exported of a run: forms, saved adapters, and kinds of weights."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from mlxft.adapters import base_model
from mlxft.adapters.found import FoundAdapter, find_adapter
from mlxft.errors import MlxftError
from mlxft.export.refusal import Subject, subject_of
from mlxft.export.source import BEST, saved_steps
from mlxft.export.types import BITS, GGUF_TYPES, MODES, Form
from mlxft.memory.local_config import local_config, model_folder
from mlxft.runs.directory import RunDirectory
from mlxft.runs.view import RunView

FORMS: Final[dict[Form, str]] = {
    "mlx": "the model with the adapter in its weights, for mlx-lm",
    "gguf": "the same for llama.cpp, Ollama and LM Studio",
    "peft": "the adapter for transformers and PEFT",
    "adapter": "the adapter for mlx-lm",
    "gguf-adapter": "the adapter for llama.cpp",
}
"""Each form with what it is."""


@dataclass(frozen=True, kw_only=True)
class Offer:
    """A run's forms and adapters to choose from, and what its model is."""

    adapter: FoundAdapter
    model: Path
    """The model's folder, which is not there before it is downloaded."""
    subject: Subject
    """What decides which forms can hold it."""
    bits: int | None
    """The bits of its quantized weights."""
    last: int | None
    """The step of the last save."""
    best: int | None
    """The step of the lowest validation loss, if its adapter was kept."""
    steps: tuple[int, ...]
    """Steps saved under names of their own."""
    other_weights: str = ""
    """How the model differs from the one it was trained on, as a sentence, or empty."""
    busy: bool = False
    """Whether a run is training on this machine, with which an export shares the memory."""

    @property
    def family(self) -> str:
        """The model's model_type; empty if it isn't known yet."""
        return self.subject.family

    @property
    def forms(self) -> tuple[Form, ...]:
        """The forms that this kind of adapter has."""
        without: tuple[Form, ...] = ("gguf-adapter",) if self.subject.is_dora else ()
        if self.subject.is_full:
            without = ("peft", "gguf-adapter")
        return tuple(each for each in FORMS if each not in without)

    @property
    def checkpoints(self) -> tuple[str | None, ...]:
        """The last save, the best, and the others from the latest to the first."""
        best = (BEST,) if self.best is not None else ()
        return (None, *best, *(str(each) for each in reversed(self.steps) if each != self.last))


def weights_for(form: Form) -> Sequence[str]:
    """The kinds of weights that a form can have; the first is the usual one."""
    if form == "mlx":
        return ("keep", "none", *reversed(BITS), *MODES)
    if form == "gguf":
        return ("f16", *(each for each in GGUF_TYPES if each != "f16"))
    return ("keep",)


def offer_of(root: Path, run: RunDirectory, view: RunView, *, busy: bool = False) -> Offer:
    """What can be exported of a run; `root` is the project's folder.

    Raises `RecipeError`, and `RunError` or `ModelError` if the run has no adapter.
    """
    adapter = find_adapter(run.path.parent, str(run.path))
    model = adapter.recipe.model
    try:
        config = local_config(model, root)
    except MlxftError:
        config = {}
    folder = model_folder(model, root)
    subject = subject_of(adapter.path, folder)
    quantization = config.get("quantization") or {}
    best = view.best_validation
    kept = best is not None and run.best_adapter_file.is_file()
    steps = saved_steps(run)
    return Offer(
        adapter=adapter,
        model=folder,
        subject=subject,
        other_weights=base_model.warning(subject.files, folder),
        bits=quantization.get("bits"),
        last=max(steps, default=None),
        best=best.step if best is not None and kept else None,
        steps=steps,
        busy=busy,
    )
