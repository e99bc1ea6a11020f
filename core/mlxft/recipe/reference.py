"""``docs/recipe.md``, the reference of all parameters, rendered from their declarations."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from typing import Final

from mlxft.recipe.declaration import GROUPS, MlxLm, Parameter, Resume, Value
from mlxft.recipe.parameters import PARAMETERS, keys_where

INTRODUCTION: Final = """\
# The recipe

<!-- Generated from core/mlxft/recipe/parameters.py by docs/render.py. -->

A recipe holds every setting of a training run. It is a YAML file, `recipe.yaml`, and also a config
file for `mlx_lm lora --config`. The Recipe screen edits it: each edit is in the file at once,
and `u` undoes it. Comments and keys that only mlx-lm knows are kept in `recipe.yaml.orig`.
A schedule's `arguments` are written for mlx-lm: delete them when you change `learning_rate` or
`iters` with an editor. `--set key=value` overrides the file on the command line, and each run keeps
its own copy in `adapters/<run>/recipe.yaml`.

```yaml
model: mlx-community/Llama-3.2-3B-Instruct-4bit
data: data
learning_rate: 2e-4
iters: 300
lora_parameters:
  rank: 16
```

What a recipe doesn't set has its default. Nested keys are written with a dot elsewhere, as in
`--set lora_parameters.rank=16`; the last part is enough where it is unique (`--set rank=16`).

## Terms

- **Recipe**: all settings of a run: model, data and parameters.
- **Adapter**: the small set of weights that LoRA or DoRA trains, while the model's own weights stay
  as they are. It is a file of a few megabytes, used together with its base model.
- **Rank**: the width of the adapter's low-rank update. The update of a weight matrix is the product
  of two thin matrices, `rank` columns and `rank` rows wide; a higher rank learns more and needs
  more memory.
- **Scale**: the factor by which the update is multiplied before it is added to the model's own
  output. Other tools write it as alpha / rank.
- **Step**: one batch, forward and backward. `iters` counts steps.
- **Update**: one change of the weights by the optimizer, after `grad_accumulation_steps` steps.
- **Epoch**: the steps in which every record is seen once: records / `batch_size`, rounded up.

## Parameters that mlx-lm doesn't have

{own}
"""

WIDTH: Final = 100

_MLX_LM: Final[dict[MlxLm, str]] = {
    "flag": "mlx-lm flag `{flag}`",
    "switch": "mlx-lm switch `{flag}`",
    "config": "mlx-lm config file only",
    "always": "mlx-lm always does this, at iteration 1",
}

_RESUME: Final[dict[Resume, str]] = {
    "fixed": "A run can't be resumed with another value.",
    "reorders": "Changing it before a resume changes the order of the records.",
    "rate": "Changing it before a resume replaces a learning rate set during the run.",
}


def reference() -> str:
    """The page as Markdown."""
    own = [f"`{key}`" for key in keys_where(lambda each: each.mlx_lm in (None, "always"))]
    sentence = (
        f"Keys and their meanings are mlx-lm's, except for {', '.join(own[:-1])} and {own[-1]}. "
        "These are this project's own: mlx-lm ignores them in a config file, and the copied "
        "`mlx_lm.lora` command omits them."
    )
    return INTRODUCTION.format(own=_filled(sentence)) + "\n" + "\n".join(_sections())


def _sections() -> Iterator[str]:
    for group in GROUPS:
        yield f"## {group.capitalize()}\n"
        for parameter in PARAMETERS.values():
            if parameter.declared.group == group:
                yield _entry(parameter)


def _entry(parameter: Parameter) -> str:
    declared = parameter.declared
    lines = [f"### `{parameter.key}`\n", f"{_filled(declared.help)}\n", f"- {_facts(parameter)}"]
    lines += [f"- {name.capitalize()}: {how}" for name, how in declared.effect.parts]
    lines += [f"- `{value}` means {meaning}" for value, meaning in declared.meanings.items()]
    if declared.resume in _RESUME:
        lines.append(f"- {_RESUME[declared.resume]}")
    return "\n".join(lines) + "\n"


def _filled(text: str) -> str:
    return textwrap.fill(text, WIDTH, break_long_words=False, break_on_hyphens=False)


def _facts(parameter: Parameter) -> str:
    rule = parameter.short_rule
    rule = f"{rule[0].upper()}{rule[1:]}"
    unit = f" ({parameter.declared.unit})" if parameter.declared.unit else ""
    how = parameter.declared.mlx_lm
    flag = "--" + parameter.mlx_lm_key.replace("_", "-")
    known = _MLX_LM[how].format(flag=flag) if how else "not in mlx-lm"
    if other := parameter.declared.other_name:
        said = (f"`{str(its).lower()}` for `{ours}`" for ours, its in other.values.items())
        known = f"in mlx-lm `{other.key}`: {', '.join(said)}"
    return f"{rule}{unit}; {_default(parameter.default)}; {known}"


def _default(value: Value) -> str:
    if value in (None, "", (), {}):
        return "empty by default"
    return f"default `{str(value).lower() if isinstance(value, bool) else value}`"
