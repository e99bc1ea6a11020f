"""The recipe screen: every parameter on the left, and what it costs on the right."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, ClassVar, Literal

from textual import on, work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.content import Content

from mlxft import recipe as recipes
from mlxft.advice import USUAL_BLOCKS
from mlxft.data.batch_plan import padded_width
from mlxft.data.printable import printable, printable_line
from mlxft.equivalent import mlx_lm_command
from mlxft.errors import MlxftError
from mlxft.presets import PRESETS, applied
from mlxft.recipe import Parameter, Recipe
from mlxft.runs.comparison import differences
from mlxft_tui import figures
from mlxft_tui.expectation import (
    Expectation,
    expect,
    expect_of_chip,
    longest_row,
    memory_correction,
)
from mlxft_tui.following import FollowedRun
from mlxft_tui.history import History
from mlxft_tui.messages import RecipeChanged, TrainingRequested
from mlxft_tui.screens.place import Place
from mlxft_tui.theme import MUTED
from mlxft_tui.widgets.ask_line import AskLine
from mlxft_tui.widgets.memory_bar import memory_note
from mlxft_tui.widgets.opening import opening_note
from mlxft_tui.widgets.recipe_form import EPOCHS, ROWS, RecipeForm, RecipeRows, value_text
from mlxft_tui.widgets.start_line import StartLine
from mlxft_tui.widgets.text_pane import TextPane

if TYPE_CHECKING:
    from mlxft.advice import Advice
    from mlxft.engine.protocol import ModelOpened
    from mlxft.memory.estimator import MemoryEstimate
    from mlxft.memory.shapes import ModelShapes
    from mlxft.telemetry.sample import Sample
    from mlxft_tui.session import Session

OPEN, SAVE = "load recipe", "save recipe as"
"""What the line at the foot asks."""

UNEVEN = 1.05
"""The factor from which a spread is worth a word."""

MOST_NAME_CELLS = 40
"""Cells for the name of a run that a figure comes from."""

UNDO_STEPS = 200
"""Changes that can be taken back."""


class RecipeScreen(Place):
    """Choose model and parameters, and see what they cost before the run."""

    HELP = """Every training parameter by mlx-lm's own name. A change shows at once what it costs
    in memory and time; nothing is trained before t."""
    CSS_PATH = "recipe.tcss"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("t", "train", "Train", tooltip="Start a run with this recipe and follow it"),
        Binding("a", "apply", "Apply", tooltip="Take the first advice"),
        Binding("f", "fit", "Fit", tooltip="Change what must be so that it fits the memory"),
        Binding("u", "undo", "Undo", tooltip="Take back the last change"),
        Binding("U", "redo", "Redo", tooltip="Make the change that was taken back again"),
        Binding("p", "preset", "Preset", tooltip="Take the next preset; u takes it back"),
        Binding("d", "compare", "Diff", tooltip="Compare with the next preset or earlier run"),
        Binding("y", "copy", "Copy", tooltip="Copy the equivalent mlx_lm command"),
        Binding("o", "open", "Open", tooltip="Load a recipe from a YAML file"),
        Binding("ctrl+s", "save", "Save", tooltip="Write the recipe to recipe.yaml"),
        Binding("S", "save_as", "Save as", show=False, tooltip="Write it to another YAML file"),
    ]

    def __init__(self, session: Session) -> None:
        super().__init__(session)
        self._undo: list[Recipe] = []
        self._redo: list[Recipe] = []
        self._preset = -1
        """The last preset taken, by its place in the list."""
        self._compared = 0
        """What the recipe is compared with, by its place among `_bases`; 0 is the defaults."""
        self._problem = ""
        self._shapes: ModelShapes | str | None = None
        """What the model's config.json says of its matrices, or why it can't be read."""
        self._advice: tuple[Advice, ...] = ()
        self._runs: tuple[FollowedRun, ...] = ()
        self._history = History(session.adapters)

    def compose_body(self) -> ComposeResult:
        yield RecipeForm(id="form")
        with Vertical(id="costs"):
            yield TextPane("effect")
            yield StartLine()
        yield TextPane("note")
        yield AskLine()

    def on_mount(self) -> None:
        form = self.query_one("#form")
        form.border_title = "recipe"
        form.styles.max_height = len(ROWS) + 2
        self.query_one("#effect").border_title = "what it costs"
        self.query_one("#note").border_title = "about"

    def on_screen_resume(self) -> None:
        self._look_back()

    @work(exclusive=True, group="history")
    async def _look_back(self) -> None:
        """What past runs say about time."""
        runs = await asyncio.to_thread(self._history.look)
        if runs is not None and self.app.is_running:
            self._runs = runs
            self._show_effect()

    # The recipe

    def watch_recipe(self) -> None:
        rows = self.query_one(RecipeRows)
        rows.recipe, rows.an_epoch = self.recipe, self.an_epoch
        self._show_effect()

    def watch_data(self) -> None:
        self.query_one(RecipeRows).an_epoch = self.an_epoch
        self._show_effect()

    def watch_tokens(self) -> None:
        self.query_one(RecipeRows).an_epoch = self.an_epoch
        self._show_effect()

    def watch_model(self) -> None:
        self._shapes = _shapes_of(self.model)
        self._show_effect()

    def watch_machine(self, old: Sample | None, new: Sample | None) -> None:
        # Only the size of the memory matters here, which comes with the first sample.
        if old is None and new is not None:
            self._show_effect()

    def watch_model_progress(self) -> None:
        self._show_effect()

    def watch_run(self) -> None:
        live = self.run is not None and self.run.live
        self.query_one(StartLine).hindrance = "a run is at work; 3 shows it" if live else ""

    @on(RecipeRows.Stepped)
    def _step(self, message: RecipeRows.Stepped) -> None:
        if message.parameter is EPOCHS:
            self._step_epochs(message.direction)
        else:
            self._change(recipes.step(self.recipe, message.parameter.key, message.direction))

    def _step_epochs(self, direction: Literal[-1, 1]) -> None:
        if an_epoch := self.an_epoch:
            epochs = recipes.epochs_for_iters(self.recipe.iters, an_epoch)
            whole = math.floor(epochs) + 1 if direction > 0 else math.ceil(epochs) - 1
            self._change_epochs(max(1, whole))

    @on(RecipeForm.Edited)
    def _edit(self, message: RecipeForm.Edited) -> None:
        if message.parameter is EPOCHS:
            self._change_epochs(float(message.text))
        else:
            self._change(recipes.replace(self.recipe, message.parameter.key, message.text))

    def _change_epochs(self, epochs: float) -> None:
        if self.an_epoch:
            steps = recipes.iters_for_epochs(epochs, self.an_epoch)
            self._change(recipes.replace(self.recipe, "iters", steps))

    def _change(self, recipe: Recipe) -> None:
        if recipe != self.recipe:
            self._undo = [*self._undo[1 - UNDO_STEPS :], self.recipe]
            self._redo = []
            self._take(recipe)

    def action_undo(self) -> None:
        if self._undo:
            self._redo.append(self.recipe)
            self._take(self._undo.pop())

    def action_redo(self) -> None:
        if self._redo:
            self._undo.append(self.recipe)
            self._take(self._redo.pop())

    def action_preset(self) -> None:
        """Take the next preset, and compare with it from now on."""
        self._preset = (self._preset + 1) % len(PRESETS)
        self._compared = 1 + self._preset
        chosen = PRESETS[self._preset]
        self._change(applied(chosen, self.recipe, self.records))
        self._show_comparison()
        self.notify(f"{chosen.name}: {chosen.purpose}.", timeout=4, markup=False)

    def action_compare(self) -> None:
        """Compare with the next preset or earlier run."""
        self._compared = (self._compared + 1) % len(self._bases)
        self._show_comparison()

    @property
    def _bases(self) -> list[tuple[str, Recipe]]:
        """What the recipe can be compared with, by name: the defaults, presets, earlier runs."""
        presets = [(each.name, applied(each, self.recipe, self.records)) for each in PRESETS]
        runs = [(run.directory.name, run.recipe) for run in self._runs]
        return [("the defaults", Recipe()), *presets, *runs]

    def _show_comparison(self) -> None:
        bases = self._bases
        self.query_one(RecipeRows).base = bases[self._compared % len(bases)][1]
        self._show_note()

    def action_copy(self) -> None:
        """Put the mlx_lm command into the terminal's clipboard, also over SSH."""
        self.app.copy_to_clipboard(mlx_lm_command(self.recipe))
        self.notify("Copied the equivalent mlx_lm command.", timeout=4)

    def action_open(self) -> None:
        self.query_one(AskLine).ask(OPEN, str(self.session.recipe_file.name))

    def action_save_as(self) -> None:
        self.query_one(AskLine).ask(SAVE, str(self.session.recipe_file.name))

    @on(AskLine.Answered)
    def _answered(self, message: AskLine.Answered) -> None:
        self.query_one(RecipeRows).focus()
        path = self.session.path(message.text)
        try:
            if message.purpose == OPEN:
                self._change(recipes.load(path))
            else:
                recipes.save(self.recipe, path)
        except MlxftError as error:
            self.notify(printable_line(str(error)), severity="error", markup=False)
        else:
            done = "Loaded" if message.purpose == OPEN else "Saved"
            self.notify(f"{done} {printable_line(str(path))}.", timeout=4, markup=False)

    @on(AskLine.Left)
    def _left(self) -> None:
        self.query_one(RecipeRows).focus()

    def _take(self, recipe: Recipe) -> None:
        # Taken here at once, so that the next of several quick keys builds on it.
        self.recipe = recipe
        self.post_message(RecipeChanged(recipe))

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        if not self.is_mounted:
            return True
        if action == "undo":
            return True if self._undo else None
        if action == "redo":
            return True if self._redo else None
        if action == "apply":
            return True if any(each.change for each in self._advice) else None
        if action == "fit":
            return True if self._need and self._need(self.recipe).verdict == "wont_fit" else None
        return True

    def action_apply(self) -> None:
        """Take the first advice that has a change."""
        change = next((each.change for each in self._advice if each.change), None)
        if change:
            self._change(recipes.replace(self.recipe, *change))

    def action_fit(self) -> None:
        """Change what must be changed, and say what that was."""
        from mlxft.advice import fit

        if self._need is None:
            return
        fitted, savings = fit(self.recipe, self._need, self._blocks)
        if fitted is None:
            self.notify("It does not fit even at its smallest; choose a smaller model.")
            return
        listed = ", ".join(
            f"{each.key} {value_text(recipes.find(each.key), each.value)}"
            f" (−{figures.gigabytes(each.saved)} GB)"
            for each in savings
        )
        self.notify(f"It fits with {listed}; u takes it back.", markup=False)
        self._change(fitted)

    def action_save(self) -> None:
        try:
            self.session.keep(self.recipe)
        except MlxftError as error:
            self.notify(printable_line(str(error)), severity="error", markup=False)
        else:
            place = printable_line(str(self.session.recipe_file))
            self.notify(f"Saved {place}.", timeout=4, markup=False)

    def action_train(self) -> None:
        if not self.query_one(StartLine).hindrance:
            self.post_message(TrainingRequested())

    @property
    def records(self) -> int | None:
        """Records of the training set, once they are counted."""
        return self.data.train_records if self.data else None

    @property
    def an_epoch(self) -> int | None:
        """Steps in which each record is seen once; from the tokens where rows are packed."""
        measured = self.tokens.get("train")
        if self.recipe.packing:
            return measured.steps_per_epoch if measured else None
        lost = measured.untrainable if measured and measured.whole else 0
        if not self.records:
            return None
        return recipes.steps_per_epoch(max(1, self.records - lost), self.recipe.batch_size)

    @property
    def _blocks(self) -> int:
        """Blocks of the model."""
        shapes = self._shapes
        return USUAL_BLOCKS if shapes is None or isinstance(shapes, str) else len(shapes.blocks)

    # What it costs

    def _show_effect(self) -> None:
        memory = self._memory()
        taken = time_note(self.recipe, self.an_epoch, self._expected(), self.clock())

        def write(width: int) -> Content:
            low = self.has_class("-low")
            gap = "\n" if low else "\n\n"
            if not isinstance(memory, Content):
                costs = memory_note(memory, width, brief=low)
                return Content.assemble(costs, gap, taken)
            return Content.assemble(memory, gap, taken)

        self.query_one("#effect", TextPane).show(write)
        self._advice = self._advised()
        self._show_note()
        self.refresh_bindings()

    def _expected(self) -> Expectation | None:
        """The run's time from like runs, or else from what the chip can do."""
        shapes = self._shapes
        expected = expect(self.recipe, self._runs)
        if expected or self.model is None or shapes is None or isinstance(shapes, str):
            return expected
        measured = self.tokens.get("train")
        row = measured.tokens / measured.records if measured and measured.records else None
        if row is not None:
            row = min(row, float(self.recipe.max_seq_length))
        return expect_of_chip(self.recipe, shapes, self.model.backend.device, row)

    def _memory(self) -> MemoryEstimate | Content:
        if isinstance(self._shapes, str):
            return Content.styled(printable(self._shapes), "$error")
        if self._need is None:
            return opening_note("The memory", self.model_progress)
        return self._need(self.recipe)

    @property
    def _need(self) -> Callable[[Recipe], MemoryEstimate] | None:
        """What a recipe needs, once the model's shapes are known."""
        if self.model is None or self._shapes is None or isinstance(self._shapes, str):
            return None
        from mlxft.memory.estimator import estimate

        shapes, backend = self._shapes, self.model.backend
        limit = backend.memory_limit or (self.machine.memory_total if self.machine else None)
        measured = self.tokens.get("train")
        longest = (
            padded_width(measured.longest, self.recipe.max_seq_length)
            if measured and measured.whole
            else longest_row(self.recipe, self._runs, self.records)
        )
        factor = memory_correction(self.recipe, self._runs, shapes, backend.kind)
        return lambda recipe: estimate(shapes, recipe, backend.kind, limit, longest, factor)

    def _advised(self) -> tuple[Advice, ...]:
        if self._shapes is None or isinstance(self._shapes, str):
            return ()
        from mlxft.advice import before_run

        valid = self.data.split("valid").statistics if self.data else None
        return tuple(
            before_run(
                self.recipe,
                self._shapes.bits,
                self._need,
                self.records,
                valid.records if valid else None,
                self.an_epoch,
                self._blocks,
            )
        )

    # The parameter under the cursor

    @on(RecipeRows.Moved)
    def _moved(self) -> None:
        self._show_note()

    @on(RecipeForm.Typing)
    def _typing(self, message: RecipeForm.Typing) -> None:
        self._problem = message.problem
        self._show_note()

    def _show_note(self) -> None:
        parameter, problem, advice = self._parameter, self._problem, self._advice
        compared = self._comparison()

        def write(width: int) -> Content:
            one_line = self.has_class("-low")
            gap = "\n" if one_line or not advice else "\n\n"
            about = compared or parameter_note(parameter, problem)
            return Content.assemble(about, gap, advice_note(advice, width if one_line else None))

        self.query_one("#note", TextPane).show(write)

    def _comparison(self) -> Content | None:
        """What differs from the preset or run chosen; None where that is the defaults."""
        bases = self._bases
        at = self._compared % len(bases)
        if at == 0 or self._problem:
            return None
        return difference_note(bases[at][0], self.recipe, bases[at][1])

    @property
    def _parameter(self) -> Parameter:
        return self.query_one(RecipeRows).parameter


def _shapes_of(model: ModelOpened | None) -> ModelShapes | str | None:
    if model is None:
        return None
    from mlxft.memory.shapes import ModelShapes

    try:
        return ModelShapes.from_config(model.config)
    except MlxftError as error:
        return str(error)


def difference_note(name: str, recipe: Recipe, base: Recipe) -> Content:
    """Each parameter that differs, with the other's value and the recipe's own."""
    heading = Content.assemble(("against ", MUTED), (printable_line(name), "bold"))
    changed = [
        Content.assemble(
            (find.name, "$accent"),
            f"  {value_text(find, theirs)} → {value_text(find, ours)}",
        )
        for key, (theirs, ours) in differences(base, recipe).items()
        for find in (recipes.find(key),)
    ]
    same = Content.styled("no difference", MUTED)
    return Content("\n").join([heading, *(changed or [same])])


def time_note(
    recipe: Recipe, an_epoch: int | None, expected: Expectation | None, now: float
) -> Content:
    """Steps, epochs and updates, how long that will take, and when it will be done."""
    seen = f"{figures.count(recipe.iters)} × {recipe.batch_size}"
    if an_epoch:
        epochs = recipes.epochs_for_iters(recipe.iters, an_epoch)
        seen += f" = {epochs:.3g} {'epoch' if epochs == 1 else 'epochs'}"
    lines = [_labelled("steps", seen)]
    if recipe.grad_accumulation_steps > 1:
        lines.append(_labelled("", f"{figures.count(recipes.updates(recipe))} updates"))
    if expected:
        speed = f"{figures.rate(expected.tokens_per_second)} tok/s"
        source = Content(printable_line(expected.source)).truncate(MOST_NAME_CELLS, ellipsis=True)
        lines.append(_labelled("time", f"{figures.duration(expected.seconds)} at {speed}"))
        lines.append(_labelled("", source.plain, MUTED))
        least, most = expected.seconds / expected.spread, expected.seconds * expected.spread
        done = time.strftime("%H:%M", time.localtime(now + expected.seconds))
        if expected.spread > UNEVEN:
            span = f"{figures.duration(least)} to {figures.duration(most)}, "
        else:
            span = ""
        lines.append(_labelled("", f"{span}done at {done}", MUTED))
    else:
        lines.append(_labelled("time", "known after a first run", MUTED))
    return Content("\n").join(lines)


def _labelled(label: str, text: str, style: str = "") -> Content:
    return Content.assemble((label.ljust(6), MUTED), (text, style))


def advice_note(advice: tuple[Advice, ...], width: int | None) -> Content:
    """What to think about before starting, with its evidence; with a width the first in a line."""
    first = next((each for each in advice if each.change), None)
    lines = []
    for each in advice:
        apply = Content.styled("  a applies it", "$primary") if each is first else ""
        shown = f" ({printable_line(each.evidence)})" if width is None else ""
        evidence = Content.styled(shown, MUTED)
        lines.append(Content.assemble(("! ", "$warning"), each.message, evidence, apply))
    if width is not None:
        lines = [line.truncate(width, ellipsis=True) for line in lines[:1]]
    return Content("\n").join(lines)


def parameter_note(parameter: Parameter, problem: str) -> Content:
    """What a parameter takes and does, or what is wrong with the value being typed."""
    if problem:
        return Content.assemble(("✗ ", "bold $error"), (printable(problem), "$error"))
    rule = parameter.rule
    if parameter is not EPOCHS:
        default = value_text(parameter, parameter.default)
        rule += f"; the default is {default if default != figures.NONE else 'none'}"
    return Content.assemble(
        (parameter.name, "bold"), (f"  {rule}", MUTED), f"\n{parameter.declared.help}"
    )
