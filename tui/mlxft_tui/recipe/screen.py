"""The Recipe screen: every parameter on the left, and what the recipe costs on the right."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, ClassVar

from textual import on, work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.content import Content

from mlxft import recipe as recipes
from mlxft.duration.expectation import PastRun, past_runs
from mlxft.errors import MlxftError, ModelError, RecipeError
from mlxft.memory.calibrated import load_calibration
from mlxft.memory.calibration import Calibration
from mlxft.memory.local_config import local_config, model_folder
from mlxft.recipe import Recipe
from mlxft.recipe.mlx_lm_command import command_notes, mlx_lm_command
from mlxft.runs.followed import FollowedRun
from mlxft.text.printable import printable_line
from mlxft_tui.frame.choice import ChoiceDialog
from mlxft_tui.frame.messages import (
    ModelChoiceRequested,
    QueueingRequested,
    SweepReportRequested,
    SweepRequested,
    TrainingRequested,
)
from mlxft_tui.frame.screen import AppScreen
from mlxft_tui.recipe.costs import Costs
from mlxft_tui.recipe.form import EPOCHS, ROWS, RecipeForm, RecipeRows, epochs_text
from mlxft_tui.recipe.notes import (
    advice_note,
    costs_note,
    difference_note,
    fit_note,
    parameter_note,
    problem_note,
)
from mlxft_tui.recipe.start_line import StartLine
from mlxft_tui.recipe.starting_points import StartingPoint, defaults, starting_points
from mlxft_tui.widgets.ask_line import AskLine
from mlxft_tui.widgets.notices import SENTENCE_SECONDS, inform, show_error, warn
from mlxft_tui.widgets.remappable import shown_key, with_keys
from mlxft_tui.widgets.text_pane import TextPane

if TYPE_CHECKING:
    from mlxft.advice.types import Advice
    from mlxft.memory.shapes import ModelShapes
    from mlxft.runs.events import ProgressMade
    from mlxft.telemetry.limits import MachineLimits
    from mlxft.telemetry.sample import Sample
    from mlxft_tui.session import Session

OPEN, SAVE, SEARCH = "load recipe", "save recipe as", "find parameter"
"""Prompts of the line at the bottom."""

NO_MODEL = "choose a model first; {recipe.models} lists them"
IN_PROGRESS = "a run is in progress; {go.train} shows it"

CLOCK_SECONDS = 20.0
"""How often the end time is updated."""


class RecipeScreen(AppScreen, keys="recipe"):
    """Choose model and parameters, and see what they cost before the run."""

    HELP = """A recipe is all settings of a run, by mlx-lm's names; each change shows at once
    what it costs in memory and time. Training adds an adapter to the model: a low-rank update
    of its layers, as wide as rank and multiplied by scale. A step trains one batch; iters is
    the number of steps. Nothing is trained until you press {recipe.train}."""
    NO_MODEL = "choose a value for model, at the top."
    CSS_PATH = "screen.tcss"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("t", "train", "Train", tooltip="Start a run with this recipe and follow it"),
        Binding("m", "models", "Models", tooltip="Choose a model, here or on the hub"),
        Binding("w", "enqueue", "Queue", tooltip="Add a run to the queue, to train in its turn"),
        Binding("x", "sweep", "Sweep", tooltip="Queue runs that differ in some parameters"),
        Binding("a", "apply", "Apply", tooltip="Apply the first advice"),
        Binding("f", "fit", "Fit", tooltip="Make it fit into memory with the fewest changes"),
        Binding("u", "undo", "Undo", tooltip="Undo the last edit"),
        Binding("U", "redo", "Redo", tooltip="Redo the edit that was undone"),
        Binding("p", "preset", "Preset", tooltip="Start from a preset or an earlier run"),
        Binding("d", "compare", "Diff", tooltip="Compare with a preset or an earlier run"),
        Binding("y", "copy", "Copy", tooltip="Copy the equivalent mlx_lm command"),
        Binding("o", "open", "Open", tooltip="Load a recipe from a YAML file"),
        Binding("X", "sweep_report", "Sweeps", show=False, tooltip="What becomes of the sweeps"),
        Binding(
            "slash",
            "search",
            "Search",
            key_display="/",
            show=False,
            tooltip="Find a parameter by its name or help; enter alone goes to the next",
        ),
        Binding("ctrl+s", "save", "Save", show=False, tooltip="Write recipe.yaml again"),
        Binding(
            "S", "save_as", "Save as", show=False, tooltip="Save the recipe to another YAML file"
        ),
    ]

    def __init__(self, session: Session) -> None:
        super().__init__(session)
        self._compared: StartingPoint | None = None
        """What the recipe is compared with; None is the defaults."""
        self._done: Content | None = None
        """What the latest key has changed."""
        self._problem = ""
        self._shapes: ModelShapes | str | None = None
        """The model's matrices, or why its config.json can't be read."""
        self._limits: MachineLimits | None = None
        self._calibration: Calibration | None = None
        self._advice: tuple[Advice, ...] = ()
        self._searched = ""
        self._due: set[Callable[[], None]] = set()
        """Notes to write once the form is painted."""
        self._runs: tuple[FollowedRun, ...] | None = None
        self._past: tuple[PastRun, ...] = ()
        self._was_shown = False

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
        self.query_one("#effect").border_title = "costs"
        self.query_one("#note").border_title = "about"
        self.set_interval(CLOCK_SECONDS, self.update_end_time)

    @property
    def costs(self) -> Costs:
        """The recipe with all that is known of its costs."""
        return Costs(
            recipe=self.recipe,
            shapes=self._shapes,
            model=self.model,
            limits=self._limits,
            machine=self.machine,
            run_is_live=self.run is not None and self.run.live,
            data=self.data,
            tokens=self.tokens,
            past=self._past,
            calibration=self._calibration,
        )

    def update_end_time(self) -> None:
        """Show when a run started now would end."""
        if self.is_current:
            self._write_soon(self._write_costs)

    # What is known

    def on_screen_resume(self) -> None:
        self._read_history()
        if not self._was_shown:
            self._was_shown = True
            self._say_differences_from_mlx_lm()

    def _say_differences_from_mlx_lm(self) -> None:
        file, adapters = self.session.recipe_file, self.session.adapters
        with suppress(RecipeError):
            for note in recipes.differences_from_mlx_lm(file, adapters) if file.is_file() else ():
                inform(self, note, seconds=SENTENCE_SECONDS)

    @work(exclusive=True, group="history")
    async def _read_history(self) -> None:
        """Read past runs, for the time, and the machine's memory."""
        runs = await asyncio.to_thread(self.session.history.poll, self._runs)
        if runs is not None:
            self._past = await asyncio.to_thread(past_runs, runs)
            self._runs = runs
        if self._limits is None:
            self._limits = await asyncio.to_thread(_machine_limits)
        if self.app.is_running:
            self._write_soon(self._write_costs)
            self._calibrate()

    @work(exclusive=True, group="calibration")
    async def _calibrate(self) -> None:
        """Correct the estimate by the peaks of this machine's finished runs."""
        shapes, kind = self.costs.known_shapes, self.costs.kind
        if shapes is None or kind is None:
            return
        self._calibration = await asyncio.to_thread(load_calibration, shapes, kind)
        if self.app.is_running:
            self._write_soon(self._write_costs)

    def watch_recipe(self, old: Recipe, new: Recipe) -> None:
        self._done = None
        self.query_one(RecipeRows).recipe = self.recipe
        if old.model != new.model:
            self._read_shapes()
            self._show_hindrance()
        self.watch_data()

    def watch_data(self) -> None:
        self.query_one(RecipeRows).steps_per_epoch = self.costs.steps_per_epoch
        self._write_soon(self._write_costs)

    watch_tokens = watch_data
    watch_tokens_problem = watch_data

    def watch_model(self) -> None:
        self._read_shapes()
        self._write_soon(self._write_costs)

    def _read_shapes(self) -> None:
        """Read the model's matrices, from its folder even before it is opened."""
        config = self.model.config if self.model else None
        shapes = _shapes(config, self.recipe.model, self.session)
        if shapes != self._shapes:
            self._shapes, self._calibration = shapes, None
        self._calibrate()

    def watch_machine(self, old: Sample | None, new: Sample | None) -> None:
        # Only the size of the memory matters here, which comes with the first sample.
        if old is None and new is not None:
            self._write_soon(self._write_costs)

    def watch_model_progress(self, old: object, new: ProgressMade | str | None) -> None:
        # A model's config.json is downloaded before its weights.
        if self._shapes is None and new is not None:
            self._read_shapes()
        self._write_soon(self._write_costs)

    def watch_run(self) -> None:
        self._show_hindrance()

    def _show_hindrance(self) -> None:
        """Say why no run can be started."""
        hindrance = "" if self.recipe.model else with_keys(self, NO_MODEL)
        if self.run is not None and self.run.live:
            hindrance = with_keys(self, IN_PROGRESS)
        if self.query_one(StartLine).hindrance != hindrance:
            self.query_one(StartLine).hindrance = hindrance
            self.refresh_bindings()

    # Changes

    @on(RecipeRows.Stepped)
    def _step(self, message: RecipeRows.Stepped) -> None:
        if (stepped := self.costs.stepped(message.parameter, message.direction)) is not None:
            self.change_recipe(stepped)

    @on(RecipeForm.Edited)
    def _edit(self, message: RecipeForm.Edited) -> None:
        if message.parameter is not EPOCHS:
            self.change_recipe(recipes.replace(self.recipe, message.parameter.key, message.text))
        elif message.text == epochs_text(self.recipe, self.costs.steps_per_epoch):
            return  # Its digits are rounded, so iters would change.
        elif (changed := self.costs.with_epochs(float(message.text))) is not None:
            self.change_recipe(changed)
        else:
            inform(self, "Epochs are unknown until the data is read.")

    def action_models(self) -> None:
        """Choose the model among those here and on the hub."""
        self.post_message(ModelChoiceRequested())

    def action_preset(self) -> None:
        """Choose a preset or an earlier run to start from, and compare with it from now on."""
        costs = self.costs
        points = starting_points(costs, self._runs or ())

        def start(index: int | None) -> None:
            if index is not None:
                self._start_from(points[index])

        described = [each.described(costs) for each in points]
        self.app.push_screen(ChoiceDialog("start from", described), start)

    def _start_from(self, point: StartingPoint) -> None:
        before = self.recipe
        self._compared = point
        self.query_one(RecipeRows).base = point.recipe
        self.change_recipe(point.recipe)
        self._report(difference_note("changed to ", point.name, self.recipe, before))

    def action_compare(self) -> None:
        """Choose what to compare with."""
        costs = self.costs
        points = [defaults(costs), *starting_points(costs, self._runs or ())]
        names = [each.name for each in points]
        compared = self._compared.name if self._compared else ""
        selected = names.index(compared) if compared in names else 0

        def compare(index: int | None) -> None:
            if index is not None:
                point = points[index]
                self._compared = point if index else None
                self.query_one(RecipeRows).base = point.recipe
                self._report(difference_note("against ", point.name, self.recipe, point.recipe))

        described = [each.described(costs) for each in points]
        self.app.push_screen(ChoiceDialog("compare with", described, selected), compare)

    def action_apply(self) -> None:
        """Take the first advice that has a change, and show what changed."""
        change = next((each.change for each in self.costs.advice() if each.change), None)
        if change:
            before = self.recipe
            self.change_recipe(recipes.replace(self.recipe, *change))
            self._report(difference_note("applied", "", self.recipe, before))

    def action_fit(self) -> None:
        """Change as little as possible to make the recipe fit, and show what changed."""
        from mlxft.advice.fit import fit

        costs, before = self.costs, self.recipe
        if costs.estimator is None:
            return
        fitted, savings = fit(before, costs.estimator.estimate, costs.blocks, costs.train_records)
        if fitted is None:
            warn(self, "It won't fit even at its smallest; choose a smaller model.")
            return
        self.change_recipe(fitted)
        self._report(fit_note(before, savings, shown_key(self, "recipe.undo", "u")))

    # Files and runs

    def action_copy(self) -> None:
        """Copy the mlx_lm command to the terminal's clipboard, also over SSH."""
        if self.recipe.loss != "sft":
            warn(self, f"mlx-lm doesn't train with loss {self.recipe.loss}; it has sft alone.")
            return
        # mlx_lm doesn't know the name demo.
        is_demo = self.recipe.model == "demo"
        folder = str(model_folder("demo", self.session.folder)) if is_demo else None
        command = mlx_lm_command(self.recipe, model=folder, blocks=self.costs.known_blocks)
        self.app.copy_to_clipboard(command)
        self._report(Content(command))
        notes = " ".join(command_notes(self.recipe))
        if notes:
            inform(self, notes, seconds=SENTENCE_SECONDS)
        else:
            inform(self, "Copied the equivalent mlx_lm command.")

    def action_open(self) -> None:
        self.query_one(AskLine).ask(OPEN, self.session.recipe_file.name)

    def action_save_as(self) -> None:
        self.query_one(AskLine).ask(SAVE, self.session.recipe_file.name)

    def action_search(self) -> None:
        """Ask which parameter to find."""
        self.query_one(AskLine).ask(SEARCH)

    def _search(self, text: str) -> None:
        """Select the next parameter that has the text, or that of the search before."""
        self._searched = text.strip() or self._searched
        if not self._searched:
            return
        text = printable_line(self._searched)
        number, count = self.query_one(RecipeRows).go_to_next(self._searched)
        if not count:
            message = f"No parameter has {text} in its name or help."
            inform(self, message)
        elif count > 1:
            keys = with_keys(self, "{recipe.search} {line.submit=enter}")
            message = f"{number} of {count} with {text}; {keys} goes to the next."
            inform(self, message)

    @on(AskLine.Answered)
    def _answered(self, message: AskLine.Answered) -> None:
        self.query_one(RecipeRows).focus()
        if message.purpose == SEARCH:
            self._search(message.text)
            return
        path = self.session.path(message.text)
        try:
            if message.purpose == OPEN:
                self.change_recipe(recipes.load(path))
            else:
                recipes.save(self.recipe, path)
        except MlxftError as error:
            show_error(self, error)
        else:
            done = "Loaded" if message.purpose == OPEN else "Saved"
            inform(self, f"{done} {path}.")

    @on(AskLine.Cancelled)
    def _cancelled(self) -> None:
        self.query_one(RecipeRows).focus()

    def action_save(self) -> None:
        edits = self.session.edits
        edits.write(durable=True)
        file = printable_line(str(edits.file))
        if edits.problem:
            show_error(self, edits.problem)
        else:
            inform(self, f"{file} has every edit as you make it.")

    def action_train(self) -> None:
        self.post_message(TrainingRequested())

    def action_enqueue(self) -> None:
        self.post_message(QueueingRequested())

    def action_sweep(self) -> None:
        """Make a sweep that varies the parameter under the cursor, and others."""
        costs, parameter = self.costs, self.query_one(RecipeRows).parameter
        key = "iters" if parameter is EPOCHS else parameter.key
        self.post_message(SweepRequested(key, costs.sources()))

    def action_sweep_report(self) -> None:
        self.post_message(SweepReportRequested())

    # Which keys do something

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        if not self.is_mounted:
            return True
        match action:
            case "train":
                enabled = not self.query_one(StartLine).hindrance
            case "enqueue" | "sweep":
                enabled = bool(self.recipe.model)
            case "undo" | "redo":
                return super().check_action(action, parameters)
            case "apply":
                enabled = any(each.change for each in self._advice)
            case "fit":
                costs = self.costs
                known = costs.estimator is not None
                enabled = costs.wont_fit or (known and bool(costs.too_few_records))
            case _:
                enabled = True
        return True if enabled else None

    def why_disabled(self, action: str) -> str:
        match action:
            case "fit" if self.costs.estimator is None:
                return "The memory isn't known yet; the model's config.json is needed."
            case "fit":
                return "It fits as it is; there is nothing to change."
            case "apply":
                return "There is no advice that changes anything."
            case "enqueue" | "sweep":
                return with_keys(self, f"{NO_MODEL.capitalize()}.")
            case "train":
                return f"{self.query_one(StartLine).hindrance.capitalize()}."
        return super().why_disabled(action)

    # The notes beside the form

    @on(RecipeRows.Moved)
    def _moved(self) -> None:
        self._done = None
        self._write_soon(self._write_about)

    @on(RecipeForm.Typing)
    def _typing(self, message: RecipeForm.Typing) -> None:
        self._problem = message.problem
        self._done = None
        self._write_soon(self._write_about)

    def _report(self, done: Content) -> None:
        """Show what a key has done, until the next one."""
        self._done = done
        self._write_soon(self._write_about)

    def _write_soon(self, write: Callable[[], None]) -> None:
        """Write a note after the form is painted, so that a key shows at once; once for many."""
        if write not in self._due:
            self._due.add(write)
            self.call_after_refresh(self._write, write)

    def _write(self, write: Callable[[], None]) -> None:
        self._due.discard(write)
        if self.is_mounted:
            write()

    def _write_costs(self) -> None:
        costs, now = self.costs, self.clock()
        progress = self.model_progress if self.recipe.model else self.NO_MODEL
        unmeasured = self.tokens_problem

        def write(width: int) -> Content:
            brief = self.has_class("-low")
            return costs_note(costs, progress, now, width, brief=brief, unmeasured=unmeasured)

        self.query_one("#effect", TextPane).show(write)
        self._advice = costs.advice()
        self._write_about(costs)
        self.refresh_bindings()

    def _write_about(self, costs: Costs | None = None) -> None:
        parameter = self.query_one(RecipeRows).parameter
        problem, advice, done = self._problem, self._advice, self._done
        neighbours = (costs or self.costs).neighbours(parameter)
        apply, data = shown_key(self, "recipe.apply", "a"), shown_key(self, "go.data", "1")

        def write(width: int) -> Content:
            brief = self.has_class("-low")
            if problem:
                return problem_note(problem)
            advised = advice_note(advice, width if brief else None, apply=apply, data=data)
            if done is None:
                return parameter_note(parameter, neighbours, advised, brief=brief)
            return Content.assemble(done, "\n\n", advised)

        self.query_one("#note", TextPane).show(write)


def _shapes(
    config: dict[str, object] | None, model: str, session: Session
) -> ModelShapes | str | None:
    """A model's matrices from its config, or else from its local folder; a sentence if they can't
    be read, None if there is no folder yet."""
    from mlxft.memory.shapes import ModelShapes

    try:
        if config is None:
            if not model:
                return None
            config = dict(local_config(model, session.folder))
    except ModelError:
        return None
    try:
        return ModelShapes.from_config(config)
    except ModelError as error:
        return str(error)


def _machine_limits() -> MachineLimits:
    from mlxft.telemetry.limits import machine_memory

    return machine_memory()
