"""The recipe screen: every parameter on the left, and what it costs on the right."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from typing import TYPE_CHECKING, ClassVar, Literal

from textual import on, work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.content import Content

from mlxft import recipe as recipes
from mlxft.advice.fit import USUAL_BLOCKS
from mlxft.data.batch_plan import padded_width
from mlxft.duration.expectation import (
    Expectation,
    PastRun,
    RowSummary,
    expect,
    longest_row,
    past_runs,
)
from mlxft.errors import MlxftError, ModelError
from mlxft.memory.calibrated import CalibratedEstimator, load_calibration
from mlxft.memory.calibration import Calibration
from mlxft.memory.confidence import Assumptions
from mlxft.memory.local_config import local_config, model_folder
from mlxft.recipe import Parameter, Recipe
from mlxft.recipe.mlx_lm_command import mlx_lm_command
from mlxft.recipe.presets import PRESETS, Preset, applied
from mlxft.runs.followed import FollowedRun
from mlxft.text import figures
from mlxft.text.printable import printable, printable_line
from mlxft_tui.frame.choice import ChoiceDialog
from mlxft_tui.frame.messages import RecipeChanged, TrainingRequested
from mlxft_tui.frame.screen import AppScreen
from mlxft_tui.recipe.form import EPOCHS, ROWS, RecipeForm, RecipeRows, epochs_text
from mlxft_tui.recipe.memory_bar import memory_note
from mlxft_tui.recipe.notes import (
    Neighbour,
    advice_note,
    difference_note,
    fit_note,
    parameter_note,
    problem_note,
    time_note,
)
from mlxft_tui.recipe.start_line import StartLine
from mlxft_tui.text.values import value_text
from mlxft_tui.widgets.ask_line import AskLine
from mlxft_tui.widgets.opening import opening_note
from mlxft_tui.widgets.text_pane import TextPane

if TYPE_CHECKING:
    from mlxft.advice.types import Advice
    from mlxft.memory.estimator import MemoryEstimate
    from mlxft.memory.shapes import ModelShapes
    from mlxft.runs.events import ProgressMade
    from mlxft.telemetry.limits import MachineLimits
    from mlxft.telemetry.sample import Sample
    from mlxft_tui.session import Session

DEFAULTS = Preset("the defaults", "what a recipe says of itself")

OPEN, SAVE = "load recipe", "save recipe as"
"""What the line at the foot asks."""

CLOCK_SECONDS = 20.0
"""How often the time at which a run would be done is told anew."""

UNDO_STEPS = 200
"""Changes that can be taken back."""


class RecipeScreen(AppScreen, keys="recipe"):
    """Choose model and parameters, and see what they cost before the run."""

    HELP = """Every training parameter by mlx-lm's own name. A change shows at once what it costs
    in memory and time; nothing is trained before t."""
    CSS_PATH = "screen.tcss"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("t", "train", "Train", tooltip="Start a run with this recipe and follow it"),
        Binding("a", "apply", "Apply", tooltip="Take the first advice"),
        Binding("f", "fit", "Fit", tooltip="Change what must be so that it fits the memory"),
        Binding("u", "undo", "Undo", tooltip="Take back the last change"),
        Binding("U", "redo", "Redo", tooltip="Make the change that was taken back again"),
        Binding("p", "preset", "Preset", tooltip="Start from a preset or an earlier run"),
        Binding("d", "compare", "Diff", tooltip="Compare with a preset or an earlier run"),
        Binding("y", "copy", "Copy", tooltip="Copy the equivalent mlx_lm command"),
        Binding("o", "open", "Open", tooltip="Load a recipe from a YAML file"),
        Binding("ctrl+s", "save", "Save", tooltip="Write the recipe to recipe.yaml"),
        Binding("S", "save_as", "Save as", show=False, tooltip="Write it to another YAML file"),
    ]

    def __init__(self, session: Session) -> None:
        super().__init__(session)
        self._undo: list[Recipe] = []
        self._redo: list[Recipe] = []
        self._base: tuple[str, Recipe] | None = None
        """What the recipe is compared with, by name; None is the defaults."""
        self._said: Content | None = None
        """What a key has just changed, until the next one."""
        self._problem = ""
        self._shapes: ModelShapes | str | None = None
        """What the model's config.json says of its matrices, or why it can't be read."""
        self._limits: MachineLimits | None = None
        self._calibration: Calibration | None = None
        self._advice: tuple[Advice, ...] = ()
        self._due: set[Callable[[], None]] = set()
        """What is told beside the form once that is painted."""
        self._runs: tuple[FollowedRun, ...] | None = None
        self._past: tuple[PastRun, ...] = ()

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
        self.set_interval(CLOCK_SECONDS, self.renew_time)

    def renew_time(self) -> None:
        """Tell when a run would be done that began now."""
        if self.is_current:
            self._show_effect()

    def on_screen_resume(self) -> None:
        self._look_back()

    @work(exclusive=True, group="history")
    async def _look_back(self) -> None:
        """What past runs say about time and memory, and what this machine has."""
        runs = await asyncio.to_thread(self.session.history.poll, self._runs)
        if runs is not None:
            self._past = await asyncio.to_thread(past_runs, runs)
            self._runs = runs
        if self._limits is None:
            self._limits = await asyncio.to_thread(_machine_limits)
        if self.app.is_running:
            self._show_effect()
            self._learn()

    @work(exclusive=True, group="calibration")
    async def _learn(self) -> None:
        """What this machine's finished runs say of the model's memory."""
        if (basis := self._basis) is None:
            return
        self._calibration = await asyncio.to_thread(load_calibration, basis.shapes, basis.kind)
        if self.app.is_running:
            self._show_effect()

    # The recipe

    def watch_recipe(self, old: Recipe, new: Recipe) -> None:
        rows = self.query_one(RecipeRows)
        rows.recipe, rows.steps_per_epoch = self.recipe, self.steps_per_epoch
        if old.model != new.model:
            self._read_shapes()
        self._show_effect()

    def watch_data(self) -> None:
        self.query_one(RecipeRows).steps_per_epoch = self.steps_per_epoch
        self._show_effect()

    def watch_tokens(self) -> None:
        self.query_one(RecipeRows).steps_per_epoch = self.steps_per_epoch
        self._show_effect()

    def watch_model(self) -> None:
        self._read_shapes()
        self._show_effect()

    def _read_shapes(self) -> None:
        """The model's matrices, from its folder even before it is opened."""
        self._shapes, self._calibration = self._found_shapes(), None
        self._learn()

    def _found_shapes(self) -> ModelShapes | str | None:
        from mlxft.memory.shapes import ModelShapes

        try:
            if self.model is not None:
                return ModelShapes.from_config(self.model.config)
            if not self.recipe.model:
                return None
            config = local_config(self.recipe.model, self.session.folder)
        except ModelError as error:
            return str(error) if self.model is not None else None
        try:
            return ModelShapes.from_config(config)
        except ModelError as error:
            return str(error)

    def watch_machine(self, old: Sample | None, new: Sample | None) -> None:
        # Only the size of the memory matters here, which comes with the first sample.
        if old is None and new is not None:
            self._show_effect()

    def watch_model_progress(self, old: object, new: ProgressMade | str | None) -> None:
        # Of a model that is being downloaded the config comes before the weights.
        if self._shapes is None and new is not None:
            self._read_shapes()
        self._show_effect()

    def watch_run(self) -> None:
        live = self.run is not None and self.run.live
        hindrance = "a run is at work; 3 shows it" if live else ""
        if self.query_one(StartLine).hindrance != hindrance:
            self.query_one(StartLine).hindrance = hindrance
            self.refresh_bindings()

    @on(RecipeRows.Stepped)
    def _step(self, message: RecipeRows.Stepped) -> None:
        if message.parameter is EPOCHS:
            self._step_epochs(message.direction)
        else:
            self._change(self._stepped(message.parameter, message.direction))

    def _stepped(self, parameter: Parameter, direction: Literal[-1, 1]) -> Recipe:
        """The recipe with a value a step along its scale, and never more layers than there are."""
        moved = recipes.step(self.recipe, parameter.key, direction)
        if parameter.key == "num_layers" and moved.num_layers > self._blocks and direction > 0:
            return recipes.replace(self.recipe, "num_layers", self._blocks)
        return moved

    def _step_epochs(self, direction: Literal[-1, 1]) -> None:
        if (epochs := self._next_epochs(direction)) is not None:
            self._change_epochs(epochs)

    def _next_epochs(self, direction: Literal[-1, 1]) -> int | None:
        """The next whole number of epochs; None where an epoch isn't known."""
        if not self.steps_per_epoch:
            return None
        epochs = recipes.epochs_for_iters(self.recipe.iters, self.steps_per_epoch)
        return max(1, math.floor(epochs) + 1 if direction > 0 else math.ceil(epochs) - 1)

    @on(RecipeForm.Edited)
    def _edit(self, message: RecipeForm.Edited) -> None:
        if message.parameter is EPOCHS:
            self._change_epochs(float(message.text))
        else:
            self._change(recipes.replace(self.recipe, message.parameter.key, message.text))

    def _change_epochs(self, epochs: float) -> None:
        if self.steps_per_epoch:
            steps = recipes.iters_for_epochs(epochs, self.steps_per_epoch)
            self._change(recipes.replace(self.recipe, "iters", steps))
        else:
            self.notify("An epoch isn't known before the data is read.", timeout=4)

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
        """Choose a preset or an earlier run to start from, and compare with it from now on."""
        bases = self._bases

        def take(at: int | None) -> None:
            if at is not None:
                self._start_from(*bases[at])

        self.app.push_screen(ChoiceDialog("start from", self._described(bases)), take)

    def _start_from(self, name: str, base: Recipe) -> None:
        before = self.recipe
        self._base = (name, base)
        self.query_one(RecipeRows).base = base
        self._change(base)
        self._say(difference_note("changed to ", name, self.recipe, before))

    def action_compare(self) -> None:
        """Choose what to compare with."""
        bases = [("the defaults", applied(DEFAULTS, self.recipe)), *self._bases]
        names = [name for name, _ in bases]
        at = names.index(self._base[0]) if self._base and self._base[0] in names else 0

        def take(at: int | None) -> None:
            if at is not None:
                self._base = bases[at] if at else None
                self.query_one(RecipeRows).base = bases[at][1]
                self._say(difference_note("against ", bases[at][0], self.recipe, bases[at][1]))

        self.app.push_screen(ChoiceDialog("compare with", self._described(bases), at), take)

    @property
    def _bases(self) -> list[tuple[str, Recipe]]:
        """What a recipe can start from, by name: presets, then earlier runs, the newest first."""
        blocks = self._known_blocks
        presets = [
            (each.name, applied(each, self.recipe, self.records, blocks)) for each in PRESETS
        ]
        runs = [(run.directory.name, run.recipe) for run in self._runs or ()]
        return [*presets, *runs]

    def _described(self, bases: list[tuple[str, Recipe]]) -> list[tuple[str, str]]:
        """Each by its name, with what it would cost here and what it is for."""
        purposes = {each.name: each.purpose for each in PRESETS}
        return [
            (printable_line(name), self._described_cost(recipe) + purposes.get(name, ""))
            for name, recipe in bases
        ]

    def _described_cost(self, recipe: Recipe) -> str:
        basis, expected = self._basis, self._expected(recipe)
        size = f"{figures.gigabytes(basis.estimate(recipe).total):>5} GB  " if basis else ""
        taken = f"{figures.duration(expected.seconds):>8}  " if expected else ""
        return size + taken

    def _say(self, said: Content) -> None:
        """Tell in the note what a key has done, until the next one."""
        self._said = said
        self._show_note()

    def action_copy(self) -> None:
        """Put the mlx_lm command into the terminal's clipboard, also over SSH."""
        # Only this application knows what demo stands for.
        is_demo = self.recipe.model == "demo"
        folder = str(model_folder("demo", self.session.folder)) if is_demo else None
        command = mlx_lm_command(self.recipe, model=folder, blocks=self._known_blocks)
        self.app.copy_to_clipboard(command)
        self._say(Content(command))
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

    @on(AskLine.Cancelled)
    def _left(self) -> None:
        self.query_one(RecipeRows).focus()

    def _take(self, recipe: Recipe) -> None:
        self._said = None
        # Taken here at once, so that the next of several quick keys builds on it.
        self.recipe = recipe
        self.post_message(RecipeChanged(recipe))

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        if not self.is_mounted:
            return True
        if action == "train":
            return None if self.query_one(StartLine).hindrance else True
        if action == "undo":
            return True if self._undo else None
        if action == "redo":
            return True if self._redo else None
        if action == "apply":
            return True if any(each.change for each in self._advice) else None
        if action == "fit":
            basis = self._basis
            too_large = basis and basis.estimate(self.recipe).verdict == "wont_fit"
            return True if too_large or (basis and self._refusal) else None
        return True

    def why_disabled(self, action: str) -> str:
        match action:
            case "fit" if self._basis is None:
                return "Whether it fits isn't known yet; the model's config.json is needed."
            case "fit":
                return "It fits as it is; there is nothing to change."
            case "undo" | "redo":
                return f"There is nothing to {action}."
            case "apply":
                return "There is no advice that changes anything."
            case "train":
                return f"{self.query_one(StartLine).hindrance.capitalize()}."
        return ""

    def action_apply(self) -> None:
        """Take the first advice that has a change, and say what that was."""
        change = next((each.change for each in self._advised() if each.change), None)
        if change:
            before = self.recipe
            self._change(recipes.replace(self.recipe, *change))
            self._say(difference_note("applied", "", self.recipe, before))

    def action_fit(self) -> None:
        """Change what must be changed, and say what that was and what it saves."""
        from mlxft.advice.fit import fit

        basis, asked = self._basis, self.recipe
        if basis is None:
            return
        fitted, savings = fit(asked, basis.estimate, self._blocks, self.records)
        if fitted is None:
            self.notify("It does not fit even at its smallest; choose a smaller model.")
            return
        self._change(fitted)
        self._say(fit_note(asked, savings))

    def action_save(self) -> None:
        try:
            self.session.save(self.recipe)
        except MlxftError as error:
            self.notify(printable_line(str(error)), severity="error", markup=False)
        else:
            place = printable_line(str(self.session.recipe_file))
            self.notify(f"Saved {place}.", timeout=4, markup=False)

    def action_train(self) -> None:
        self.post_message(TrainingRequested())

    @property
    def records(self) -> int | None:
        """Records of the training set, once they are counted."""
        return self.data.train_records if self.data else None

    @property
    def _refusal(self) -> str:
        """Why a run would be refused whatever memory there is; nothing if it wouldn't."""
        if not self.records or self.recipe.batch_size <= self.records:
            return ""
        return f"only {figures.count(self.records)} records"

    @property
    def steps_per_epoch(self) -> int | None:
        """Steps in which each record is seen once; from the tokens where rows are packed."""
        measured = self.tokens.get("train")
        if self.recipe.packing:
            return measured.steps_per_epoch if measured else None
        if self.recipe.overlong == "split" and measured:
            return measured.steps_per_epoch
        lost = measured.untrainable if measured and measured.whole else 0
        if not self.records:
            return None
        return recipes.steps_per_epoch(max(1, self.records - lost), self.recipe.batch_size)

    @property
    def _blocks(self) -> int:
        """Blocks of the model, or as many as is usual."""
        return self._known_blocks or USUAL_BLOCKS

    @property
    def _known_blocks(self) -> int | None:
        shapes = self._shapes
        return None if shapes is None or isinstance(shapes, str) else len(shapes.blocks)

    # What it costs

    def _show_effect(self) -> None:
        self._tell_soon(self._tell_effect)

    def _tell_soon(self, tell: Callable[[], None]) -> None:
        """Tell it once the form is painted, so that a key is seen at once; only once for many."""
        if tell not in self._due:
            self._due.add(tell)
            self.call_after_refresh(self._tell, tell)

    def _tell(self, tell: Callable[[], None]) -> None:
        self._due.discard(tell)
        if self.is_mounted:
            tell()

    def _tell_effect(self) -> None:
        memory = self._memory()
        expected, now = self._expected(self.recipe), self.clock()
        broken = self.model_progress if isinstance(self.model_progress, str) else ""
        refusal = self._refusal

        def write(width: int) -> Content:
            taken = time_note(self.recipe, self.steps_per_epoch, expected, now, width)
            low = self.has_class("-low")
            gap = "\n" if low else "\n\n"
            if isinstance(memory, Content):
                return Content.assemble(memory, gap, taken)
            costs = memory_note(*memory, width, brief=low, refusal=refusal)
            if broken:
                costs = Content.assemble(costs, ("\n! ", "bold $warning"), printable(broken))
            return Content.assemble(costs, gap, taken)

        self.query_one("#effect", TextPane).show(write)
        self._advice = self._advised()
        self._tell_note()
        self.refresh_bindings()

    def _expected(self, recipe: Recipe) -> Expectation | None:
        """A recipe's time from past runs, or else from what the chip can do."""
        shapes = None if isinstance(self._shapes, str) else self._shapes
        backend = self.model.backend if self.model else None
        return expect(recipe, self._past, shapes, backend, self._rows(recipe))

    def _rows(self, recipe: Recipe) -> RowSummary:
        measured = self.tokens.get("train")
        found = self.data.split("valid").statistics if self.data else None
        valid = found.records if found else 0
        if measured is None or not measured.records or not measured.tokens:
            return RowSummary(valid_rows=valid)
        longest = float(recipe.max_seq_length)
        row = min(measured.tokens / measured.records, longest)
        if recipe.packing:
            valid, row = math.ceil(valid * row / longest), longest
        return RowSummary(row, min(1.0, measured.trained_tokens / measured.tokens), valid)

    def _memory(self) -> tuple[MemoryEstimate, Assumptions] | Content:
        if isinstance(self._shapes, str):
            return Content.styled(printable(self._shapes), "$error")
        if (basis := self._basis) is None:
            return opening_note("The memory", self.model_progress)
        return basis.estimate(self.recipe), self._standing(basis)

    @property
    def _basis(self) -> CalibratedEstimator | None:
        """What an estimate stands on, once the model's shapes and the device are known."""
        shapes = self._shapes
        if shapes is None or isinstance(shapes, str):
            return None
        if self.model is not None:
            backend, installed = self.model.backend, self._installed
            kind, limit = backend.kind, backend.memory_limit or installed
        elif self._limits is not None:
            kind, limit = self._limits.kind, self._limits.limit
        else:
            return None
        return CalibratedEstimator(
            shapes, kind, limit, self._longest, self._calibration or Calibration()
        )

    @property
    def _longest(self) -> int | None:
        """The tokens of the longest record, where the data was measured or a run has told."""
        measured = self.tokens.get("train")
        if measured and measured.whole:
            return measured.longest
        return longest_row(self.recipe, self._past, self.records)

    @property
    def _installed(self) -> int | None:
        """Bytes of the device's memory."""
        sample = self.machine
        return (sample.gpu_memory_total or sample.memory_total) if sample else None

    def _standing(self, basis: CalibratedEstimator) -> Assumptions:
        """What an estimate stands on, as it is told."""
        sample = self.machine
        # A training that is at work is no other program.
        alone = sample is not None and not (self.run is not None and self.run.live)
        longest, limit = basis.longest, self.recipe.max_seq_length
        known = longest is not None and not self.recipe.packing
        used = None
        if sample is not None and alone:
            used = sample.gpu_memory_used if sample.gpu_memory_total else sample.memory_used
        return Assumptions(
            kind=basis.kind,
            calibration=basis.calibration,
            row=padded_width(longest, limit) if longest is not None and known else limit,
            measured=known,
            used_elsewhere=used,
            installed=self._installed,
        )

    def _advised(self) -> tuple[Advice, ...]:
        if self._shapes is None or isinstance(self._shapes, str):
            return ()
        from mlxft.advice.before_run import before_run

        valid = self.data.split("valid").statistics if self.data else None
        return tuple(
            before_run(
                self.recipe,
                self._shapes.bits,
                basis.estimate if (basis := self._basis) else None,
                train_records=self.records,
                valid_records=valid.records if valid else None,
                steps_per_epoch=self.steps_per_epoch,
                blocks=self._blocks,
            )
        )

    # The parameter under the cursor

    @on(RecipeRows.Moved)
    def _moved(self) -> None:
        self._said = None
        self._show_note()

    @on(RecipeForm.Typing)
    def _typing(self, message: RecipeForm.Typing) -> None:
        self._problem = message.problem
        self._said = None
        self._show_note()

    def _show_note(self) -> None:
        self._tell_soon(self._tell_note)

    def _tell_note(self) -> None:
        parameter, problem, advice, said = self._parameter, self._problem, self._advice, self._said
        neighbours = self._neighbours(parameter)

        def write(width: int) -> Content:
            low = self.has_class("-low")
            advised = advice_note(advice, width if low else None)
            if problem or said is None:
                about = problem_note(problem) if problem else None
                return about or parameter_note(parameter, neighbours, advised, brief=low)
            return Content.assemble(said, "\n\n", advised)

        self.query_one("#note", TextPane).show(write)

    def _neighbours(self, parameter: Parameter) -> list[Neighbour]:
        """What a step down and a step up would cost, where they lead anywhere."""
        directions: tuple[Literal[-1, 1], ...] = (1,) if parameter.kind == "bool" else (-1, 1)
        found = (self._neighbour(parameter, each) for each in directions)
        return [each for each in found if each is not None and (each.memory or each.seconds)]

    def _neighbour(self, parameter: Parameter, direction: Literal[-1, 1]) -> Neighbour | None:
        if parameter is EPOCHS:
            epochs, steps_per_epoch = self._next_epochs(direction), self.steps_per_epoch
            if epochs is None or steps_per_epoch is None:
                return None
            steps = recipes.iters_for_epochs(epochs, steps_per_epoch)
            moved = recipes.replace(self.recipe, "iters", steps)
            value = epochs_text(moved, steps_per_epoch)
        else:
            moved = self._stepped(parameter, direction)
            value = value_text(parameter, recipes.get(moved, parameter.key))
        if moved == self.recipe:
            return None
        now, then = self._expected(self.recipe), self._expected(moved)
        seconds = then.seconds - now.seconds if now and then else None
        basis = self._basis
        memory = basis.estimate(moved).total - basis.estimate(self.recipe).total if basis else None
        return Neighbour(direction, value, memory, seconds)

    @property
    def _parameter(self) -> Parameter:
        return self.query_one(RecipeRows).parameter


def _machine_limits() -> MachineLimits:
    from mlxft.telemetry.limits import machine_memory

    return machine_memory()
