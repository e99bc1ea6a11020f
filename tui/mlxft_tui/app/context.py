"""What the parts of a project share: session, state, and the application that shows it."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

from textual.app import App

from mlxft.errors import MlxftError
from mlxft.recipe import Recipe
from mlxft_tui.app.state import AppState
from mlxft_tui.frame.screen import AppScreen
from mlxft_tui.session import Session
from mlxft_tui.widgets import notices


class Context:
    """The state of a project, pushed to the current screen by `publish`."""

    def __init__(self, app: App[None], session: Session, recipe: Recipe) -> None:
        self.app = app
        self.session = session
        self.state = AppState(recipe=recipe)

    def publish(self) -> None:
        """Push the state to the current screen and one above it; the others get it when shown."""
        # During exit, screens lose their widgets one by one.
        for screen in self.app.screen_stack if self.app.is_running else ():
            if isinstance(screen, AppScreen) and screen.is_mounted:
                self.state.show_on(screen)

    def run_in_background(
        self, work: Callable[[], Coroutine[Any, Any, None]], *, group: str, exclusive: bool = True
    ) -> None:
        """Run a coroutine function, cancelling those of its group if it is `exclusive`."""
        self.app.run_worker(work, group=group, exclusive=exclusive)  # type: ignore[arg-type]

    def show_error(self, problem: MlxftError | str) -> None:
        """Show an error as a notification."""
        notices.show_error(self.app, problem)
