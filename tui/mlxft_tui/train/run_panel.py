"""The run's recipe, validations and checkpoints."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from mlxft import recipe as recipes
from mlxft.recipe import Recipe
from mlxft.runs.view import RunView
from mlxft.text import figures
from mlxft.text.printable import printable_line
from mlxft_tui.text.cells import Role, Row, Span, cropped, heading
from mlxft_tui.widgets.cell_view import CellView

LABEL = 9
"""Cells of a row's name."""


@dataclass(frozen=True)
class RunFacts:
    """The run's name, its recipe and its view."""

    name: str = ""
    recipe: Recipe = Recipe()  # noqa: RUF009
    view: RunView = RunView()  # noqa: RUF009


class RunPanel(CellView):
    """The recipe in a few lines, then validations and checkpoints, newest first."""

    def __init__(self, id: str | None = None) -> None:  # noqa: A002
        super().__init__(id)
        self._facts = RunFacts()

    def show(self, facts: RunFacts) -> None:
        """Show this run."""
        self._facts = facts
        self.repaint()

    def rows(self, width: int, height: int) -> Sequence[Row]:
        name = printable_line(self._facts.name)
        title = heading((("run", "strong"),), ((name, "muted"),), width)
        facts = recipe_rows(self._facts.recipe, self._facts.view)
        most = max(0, height - 1 - len(facts))
        results = result_rows(self._facts.view, most, self._facts.recipe.keep_checkpoints)
        return [title, *(cropped(row, width) for row in (*facts, *results))]


def recipe_rows(recipe: Recipe, view: RunView) -> list[Row]:
    """The most important parameters, one line each."""
    layers = "all layers" if recipe.num_layers <= 0 else f"{recipe.num_layers} layers"
    shape = recipe.lora_parameters
    adapter = (
        f"full, {layers}"
        if recipe.fine_tune_type == "full"
        else f"{recipe.fine_tune_type} rank {shape.rank} ×{shape.factor:.6g}, {layers}"
    )
    schedule = f", {recipe.lr_schedule.name}" if recipe.lr_schedule else ""
    rate = figures.learning_rate(recipe.learning_rate)
    if view.rate_changes and view.learning_rate not in (None, recipe.learning_rate):
        rate += f", now {figures.short_rate(view.learning_rate)},"
    rate += f" {recipe.optimizer}{schedule}"
    accumulated = recipe.grad_accumulation_steps
    units = recipes.unit_of_batch(recipe)
    unit = units.removesuffix("s") if recipe.batch_size == 1 else units
    batch = f"{recipe.batch_size} {unit}" + (f" × {accumulated}" if accumulated > 1 else "")
    steps = figures.count(view.iters or recipe.iters)
    if view.data is not None and view.data.steps_per_epoch:
        epochs = (view.iters or recipe.iters) / view.data.steps_per_epoch
        steps += f", {figures.epochs(epochs)} epochs"
    loss = [] if recipe.loss == "sft" else [_fact("loss", _loss(recipe))]
    rows = [
        _fact("model", printable_line(figures.shown_path(recipe.model)) or "none chosen"),
        _fact("data", printable_line(figures.shown_path(recipe.data))),
        _fact("adapter", adapter),
        *loss,
        _fact("rate", rate),
        _fact("batch", batch),
        _fact("steps", steps),
    ]
    if view.data is not None:
        records = f"{figures.count(view.data.train_records)} + {view.data.valid_records} valid"
        rows.append(_fact(units, records))
    rows += preference_rows(view)
    if view.keeps_awake:
        rows.append(_fact("sleep", "prevented while the run is live"))
    return rows


def _loss(recipe: Recipe) -> str:
    """The loss and the constants that matter to it."""
    constants = recipe.loss_parameters
    words = [recipe.loss, f"beta {constants.beta:g}"]
    if recipe.loss == "simpo":
        words.append(f"gamma {constants.simpo_gamma:g}")
    return ", ".join(words)


def preference_rows(view: RunView) -> list[Row]:
    """What the latest steps say of the preference on average."""
    found = view.preference
    if found is None:
        return []
    shown = {"accuracy": f"{found.accuracy:.1%}"}
    if found.margin is not None:
        shown["accuracy"] += f", margin {_signed(found.margin)}"
    shown["rewards"] = _both(found.chosen_reward, found.rejected_reward)
    shown["log p"] = _both(found.chosen_logp, found.rejected_logp)
    if found.kl is not None:
        shown["KL"] = f"{found.kl:.3f}".replace("-", "−")
    return [_fact(name, value) for name, value in shown.items()]


def _both(chosen: float | None, rejected: float | None) -> str:
    return f"{_signed(chosen)} chosen, {_signed(rejected)} rejected"


def _signed(value: float | None) -> str:
    return figures.NONE if value is None else f"{value:.2f}".replace("-", "−")


def result_rows(view: RunView, most: int, kept: int) -> list[Row]:
    """At most `most` validations and checkpoints, the newest first.

    The run can be resumed from the last `kept` checkpoints and the best; the others keep only
    their adapter.
    """
    most = max(0, most - 1)
    best = view.best_validation
    found: list[tuple[int, int, Row]] = []
    for each in view.validations[-most:] if most else ():
        is_best = best is not None and each.step == best.step
        role: Role = "best" if is_best else "validation"
        when = f"step {each.step}" if each.step else "before training"
        runs: list[Span] = [("● ", role), (f"{when}  ", "muted")]
        runs.append((f"validation {figures.loss(each.loss)}", "plain"))
        if each.preference is not None:
            runs.append((f"  {each.preference.accuracy:.1%}", "plain"))
        if is_best:
            runs.append(("  best", "best"))
        found.append((each.step, each.seq, tuple(runs)))
    # A step may be saved twice: manually and on schedule.
    saves = {saved.step: saved.seq for saved in view.checkpoints}
    steps = sorted(saves)
    for step in steps[-most:] if most else ():
        whole = step in steps[-kept:] or (best is not None and step == best.step)
        what = "checkpoint" if whole else "adapter only"
        found.append((step, saves[step], (("▪ ", "muted"), (f"step {step}  {what}", "muted"))))
    found.sort(key=lambda each: each[:2], reverse=True)
    rows = [row for _, _, row in found[:most]]
    return [(), *rows] if rows else []


def _fact(name: str, value: str) -> Row:
    return ((name.ljust(LABEL), "muted"), (value, "plain"))
