"""Which models answer the next prompt, and with which settings."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Literal

from mlxft.chat.answerers import (
    ADAPTER,
    BASE,
    Answerer,
    Comparison,
    adapter_step,
    in_training,
    other_answerers,
    own_answerers,
)
from mlxft.comparison.labels import shown_name
from mlxft.conversation.messages import Sampling
from mlxft.conversation.sampling import stops_text
from mlxft.engine.protocol import ModelOpened
from mlxft.recipe import Recipe
from mlxft.runs.directory import RunDirectory
from mlxft.text.printable import printable_line
from mlxft_tui.chat.answerer_line import AnswererState
from mlxft_tui.chat.backend import ChatBackend
from mlxft_tui.frame.run_bar import model_name
from mlxft_tui.frame.screen import AppScreen


class ModelChoice:
    """The compared answerers, sampling and system prompt, given the screen's run and recipe."""

    def __init__(self, screen: AppScreen, backend: ChatBackend) -> None:
        self.system = ""
        """The system prompt."""
        self._screen = screen
        self._backend = backend
        self._comparison = Comparison()
        self._sampling: Sampling | None = None

    @property
    def recipe(self) -> Recipe:
        """The recipe of the followed run, else the one being edited."""
        run = self._screen.run
        return run.recipe if run else self._screen.recipe

    @property
    def followed(self) -> str:
        """The name of the followed run; empty without one."""
        run = self._screen.run
        return run.directory.name if run else ""

    # Answerers

    @property
    def own(self) -> tuple[Answerer, ...]:
        """The base model, and the followed run's adapter and checkpoints."""
        return own_answerers(self._screen.run)

    @property
    def asked(self) -> tuple[Answerer, ...]:
        """Those that answer the next prompt, in column order."""
        return self._comparison.asked(self.own)

    @property
    def compared(self) -> tuple[Answerer, ...]:
        """The two that an evaluation compares."""
        pair = self._comparison.present(self.own)
        return pair if len(pair) > 1 else (BASE, ADAPTER)

    @property
    def titles(self) -> list[tuple[Answerer, str]]:
        """Those that answer the next prompt, with their titles."""
        return [(each, self.title(each)) for each in self.asked]

    def title(self, answerer: Answerer) -> str:
        """An answerer's title with the step it is at."""
        if answerer.is_other_run:
            return replace(answerer, run=self.run_name(answerer.run or "")).title()
        run = self._screen.run
        return answerer.title(adapter_step(run) if run else 0)

    def run_name(self, run: str) -> str:
        """The name that people see of a run."""
        return shown_name(RunDirectory(self._screen.session.adapters / run))

    def ask(self, asks: Literal["left", "right", "both"]) -> bool:
        """Let one of the two answer, or both; False if there is no second one."""
        if len(self._comparison.present(self.own)) < 2:
            return False
        self._comparison = replace(self._comparison, asks=asks)
        return True

    def switch(self) -> bool:
        """Let the other one answer; False if there is none."""
        return self.ask("left" if self._comparison.asks == "right" else "right")

    def toggle_both(self) -> bool:
        """Let both answer, or one again; False if there is no second one."""
        return self.ask("right" if self._comparison.asks == "both" else "both")

    def choose(self, *chosen: Answerer) -> None:
        """Let these answer."""
        self._comparison = self._comparison.choosing(*chosen)

    def available(self) -> list[tuple[Answerer, str]]:
        """All that can answer, in words; reads the folders of other runs."""
        session = self._screen.session
        model = session.path(self.recipe.model).resolve()
        runs = sorted(session.runs(), key=lambda run: run.name)
        others = other_answerers(
            runs, self.followed, lambda each: session.path(each).resolve() == model
        )
        return [(each, f"{each.kind} {self._name(each)}") for each in (*self.own, *others)]

    def replacement(self, asked_before: Iterable[tuple[Answerer, str]]) -> str:
        """A notice if a chosen answerer, asked before, is no longer available; else empty."""
        missing = {each for each in self._comparison.wanted if each not in self.asked}
        titles = [title for each, title in asked_before if each in missing]
        if not titles:
            return ""
        instead = " and ".join(title for _, title in self.titles)
        return f"{titles[-1]} is gone, since it was never saved; using {instead} instead."

    def states(self) -> tuple[AnswererState, ...]:
        """The two answerers as shown on screen."""
        asked, pair = self.asked, self._comparison.present(self.own)
        shown = pair if len(pair) > 1 else (*pair, ADAPTER)
        return tuple(AnswererState(each.kind, self._name(each), each in asked) for each in shown)

    def _name(self, answerer: Answerer) -> str:
        """Its model, run or step; empty if it isn't available."""
        run = self._screen.run
        if answerer == BASE:
            return model_name(self.recipe.model)
        if answerer.is_other_run:
            return self.title(answerer)
        if run is None or answerer not in self.own:
            return ""
        if answerer.step is not None:
            return f"step {answerer.step}"
        name = printable_line(shown_name(run.directory))
        return f"{name}, {'in training, ' if in_training(run) else ''}step {adapter_step(run)}"

    # Settings

    @property
    def sampling(self) -> Sampling:
        """The sampling chosen, else the one the model recommends."""
        return self.recommended_sampling if self._sampling is None else self._sampling

    @property
    def recommended_sampling(self) -> Sampling:
        """The sampling the model recommends; greedy until the model is known."""
        return self._model.sampling if self._model else Sampling()

    @property
    def _model(self) -> ModelOpened | None:
        screen = self._screen
        return self._backend.model(screen.run, screen.recipe, screen.model)

    def configure(self, sampling: Sampling, system: str) -> None:
        """Change sampling and system prompt."""
        self._sampling, self.system = sampling, system

    def settings(self) -> str:
        """The settings that differ from the defaults, in words."""
        sampling, parts = self.sampling, []
        if sampling.temperature:
            parts.append(f"temperature {sampling.temperature:g}")
        if self.system:
            parts.append("system prompt")
        has_none = self._model is not None and not self._model.has_chat_template
        if has_none and self.recipe.chat_template is None:
            parts.append("no chat template: plain completion")
        if sampling.max_tokens != Sampling().max_tokens:
            parts.append(f"max {sampling.max_tokens} tokens")
        if sampling.stop:
            parts.append(f"stops at {printable_line(stops_text(sampling.stop))}")
        return "  ".join(parts)
