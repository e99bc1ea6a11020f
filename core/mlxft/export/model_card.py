"""The page that goes with an export: what it is, what was measured, and how to load it."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import msgspec

from mlxft import recipe as recipes
from mlxft.export.curve import CURVE_NAME, curve_svg
from mlxft.export.quantization import Quantized
from mlxft.export.types import Exported, Form
from mlxft.recipe import Recipe
from mlxft.storage.paths import demo_model


class Origin(msgspec.Struct, frozen=True, kw_only=True):
    """Where an export comes from."""

    run: str
    base: str = ""
    """The base model in words, where the recipe's name of it is only known here."""
    hub_base: str = ""
    """The base model's name that others can load, where that is another than the recipe's."""
    steps: int | None = None
    """Training steps of the exported adapter."""
    data: str = ""
    """The fingerprint of the training records."""
    validation: tuple[tuple[int, float], ...] = ()
    """Steps and their validation losses."""


def without_folders(config: Mapping[str, Any]) -> dict[str, Any]:
    """An adapter's config without this machine's folders of data and runs; `model` is needed."""
    kept = {key: value for key, value in config.items() if key != "adapter_path"}
    return {key: _name(value) if key in _FOLDERS else value for key, value in kept.items()}


_FOLDERS: Final = ("data", "resume_adapter_file")
"""Parameters that often name a path of the machine a run was trained on."""


def _name(path: Any) -> Any:
    """The last part of an absolute path; anything else as it is."""
    return Path(path).name if isinstance(path, str) and Path(path).is_absolute() else path


def model_card(exported: Exported, recipe: Recipe, origin: Origin) -> str:
    """The page in Markdown."""
    parts = (
        _header(exported, recipe, origin),
        _measured(exported),
        _curve(origin.validation),
        _loading(exported, "MODEL" if origin.base else recipe.model),
        _recipe(recipe),
    )
    return "\n\n".join(part for part in parts if part) + "\n"


def _header(exported: Exported, recipe: Recipe, origin: Origin) -> str:
    what = {
        "mlx": "The model with its adapter fused into the weights, for MLX.",
        "gguf": "The model with its adapter fused into the weights, for llama.cpp.",
        "peft": "A LoRA adapter for transformers and PEFT.",
        "adapter": "A LoRA adapter for mlx-lm.",
        "gguf-adapter": "A LoRA adapter for llama.cpp.",
    }[exported.form]
    steps = f", {origin.steps} steps" if origin.steps is not None else ""
    lines = [
        f"# {origin.run}",
        what,
        "",
        f"- base model: {origin.base or f'`{recipe.model}`'}",
        f"- trained with mlxft-tui: {recipe.fine_tune_type}{steps}",
    ]
    if exported.form == "peft" and origin.hub_base:
        lines.append(
            f"- the adapter's config names `{origin.hub_base}`, whose weights may differ a little "
            "from those it was trained on"
        )
    elif exported.form == "peft" and Path(recipe.model).is_absolute():
        lines.append(
            "- the adapter's config names a folder of the machine it was trained on: change "
            "`base_model_name_or_path` to where the base model is"
        )
    if origin.data:
        lines.append(f"- training records: fingerprint `{origin.data}`")
    return "\n".join(lines)


def _measured(exported: Exported) -> str:
    lines = ["## What was measured", "The files were loaded again and compared with the run:", ""]
    lines += [f"- {line}" for line in exported.proof.lines]
    lines += [line for each in (exported.note, exported.warning) if each for line in ("", each)]
    return "\n".join(lines)


def _curve(validation: Sequence[tuple[int, float]]) -> str:
    if not validation:
        return ""
    picture = [f"![Validation loss over steps]({CURVE_NAME})", ""] if curve_svg(validation) else []
    rows = [f"| {step} | {loss:.4f} |" for step, loss in validation]
    return "\n".join(["## Validation", *picture, "| step | loss |", "|---|---|", *rows])


def gguf_name(folder: Path) -> str:
    """The name of the GGUF file in an export's folder, which the default ends with -gguf."""
    return f"{re.sub('-gguf(?=-adapter$|$)', '', folder.name)}.gguf"


def loading_lines(exported: Exported, model: str) -> tuple[str, ...]:
    """The lines that load an export, in its folder; `model` names the base."""
    file = shlex.quote(gguf_name(Path(exported.folder)))
    lines: Mapping[Form, tuple[str, ...]] = {
        "gguf": (
            f'llama-cli -m {file} -p "Hello"',
            "ollama create my-model -f Modelfile",
            f"lms import {file}  # LM Studio",
        ),
        "gguf-adapter": (f'llama-cli -m BASE.gguf --lora {file} -p "Hello"',),
        "mlx": (
            'python -m mlx_lm generate --model . --prompt "Hello"',
            "python -m mlx_lm server --model .",
        ),
        "adapter": (
            f'python -m mlx_lm generate --model {model} --adapter-path . --prompt "Hello"',
        ),
        "peft": (
            "from peft import AutoPeftModelForCausalLM",
            'model = AutoPeftModelForCausalLM.from_pretrained(".")',
        ),
    }
    return lines[exported.form]


def quantized_card(found: Quantized, model: str) -> str:
    """The page of a quantized model in Markdown."""
    lines = [
        f"# {Path(found.folder).name}",
        f"`{model}`, {found.quantization.title}, for MLX. Written by mlxft-tui.",
        "## What was measured",
        "The files were loaded again and compared with that model:",
        "\n".join(f"- {line}" for line in found.lines),
        "## Load it",
        '```sh\npython -m mlx_lm generate --model . --prompt "Hello"\n```',
    ]
    return "\n\n".join(lines) + "\n"


def loadable(model: str) -> str:
    """The model's name for mlx-lm, which doesn't know the demo's."""
    return str(demo_model()) if model == "demo" else model


def _loading(exported: Exported, model: str) -> str:
    language = "python" if exported.form == "peft" else "sh"
    lines = loading_lines(exported, model)
    return "\n".join(["## Load it", f"```{language}", *lines, "```"])


def _recipe(recipe: Recipe) -> str:
    for key in _FOLDERS:
        recipe = recipes.replace(recipe, key, _name(recipes.get(recipe, key)))
    return "\n".join(["## Recipe", "```yaml", recipes.dump(recipe).rstrip(), "```"])
