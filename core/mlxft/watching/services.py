"""One thin adapter for each service that a run's figures can be reported to.

Their libraries are optional, so they are imported when a service starts.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, Final, Literal, Protocol

from mlxft.recipe.yaml_text import write_yaml

State = Literal["finished", "stopped", "failed"]

ONLINE_SECONDS: Final = 20
"""How long a service may take to answer before its run is recorded on disk instead."""


@dataclass(frozen=True, kw_only=True)
class Reported:
    """A run as a service knows it."""

    id: str
    name: str
    project: str
    folder: Path
    config: Mapping[str, Any]
    is_resumed: bool
    """Whether the service has earlier steps of it."""
    first_step: int


class Service(Protocol):
    """A service that is reported to; every method may raise what its library raises."""

    rewinds: bool
    """Whether a resume replaces the steps after it, rather than keeping those reported before."""

    def start(self, run: Reported) -> str | None:
        """Begin or continue the run; what the user should know, such as how to upload it."""

    def log(self, step: int, figures: Mapping[str, float]) -> None:
        """Report figures of a step."""

    def log_text(self, step: int, text: str) -> None:
        """Report a sample."""

    def flush(self) -> None:
        """Put what was reported where it survives this process."""

    def end(self, state: State, message: str, summary: Mapping[str, float]) -> None:
        """Report how the session ended, and upload the rest."""


class TensorBoard:
    """Event files in the run's folder, by tensorboardX."""

    rewinds = True

    def start(self, run: Reported) -> str | None:
        tensorboard = import_module("tensorboardX")
        # Events from this step on, of a killed session, are hidden.
        purged = run.first_step + 1 if run.is_resumed else None
        # Otherwise a session that begins in the same second would replace the file.
        suffix = f".{run.first_step}"
        self._writer = tensorboard.SummaryWriter(
            str(run.folder), purge_step=purged, filename_suffix=suffix
        )
        self._writer.add_text("recipe", f"```yaml\n{write_yaml(dict(run.config))}```", 0)
        self._step = run.first_step
        return None

    def log(self, step: int, figures: Mapping[str, float]) -> None:
        self._step = step
        for name, value in figures.items():
            self._writer.add_scalar(name, value, step)

    def log_text(self, step: int, text: str) -> None:
        self._writer.add_text("sample", text, step)

    def flush(self) -> None:
        self._writer.flush()

    def end(self, state: State, message: str, summary: Mapping[str, float]) -> None:
        figures = "".join(f"- {name}: {value:g}\n" for name, value in summary.items())
        self._writer.add_text("end", f"**{state}** {message}\n\n{figures}", self._step)
        self._writer.close()


class Trackio:
    """A local database in trackio's own folder, or the space that its variables name."""

    rewinds = False

    def start(self, run: Reported) -> str | None:
        trackio = import_module("trackio")
        self._markdown = trackio.Markdown
        self._run = trackio.init(
            project=run.project,
            name=run.name,
            config=dict(run.config),
            resume="allow" if run.is_resumed else "never",
            embed=False,
            auto_log_cpu=False,
            auto_log_gpu=False,
        )
        self._alert = trackio.alert
        self._error = trackio.AlertLevel.ERROR
        self._finish = trackio.finish
        self._log: Callable[..., None] = trackio.log
        self._step = run.first_step
        return None

    def log(self, step: int, figures: Mapping[str, float]) -> None:
        self._step = step
        self._log(dict(figures), step=step)

    def log_text(self, step: int, text: str) -> None:
        self._log({"sample": self._markdown(text)}, step=step)

    def flush(self) -> None:
        """It writes by itself twice a second."""

    def end(self, state: State, message: str, summary: Mapping[str, float]) -> None:
        if summary:
            self._log(dict(summary), step=self._step)
        if state == "failed":
            self._alert(title="The run has failed", text=message, level=self._error)
        self._finish()


class Wandb:
    """wandb's service where the user is logged in, or else its folder in the run's."""

    rewinds = False

    def start(self, run: Reported) -> str | None:
        wandb = import_module("wandb")
        self._table = wandb.Table
        options = {
            **_identity(run),
            "dir": str(run.folder),
            # The engine's own figures are reported, not this process's.
            "settings": wandb.Settings(
                console="off", init_timeout=ONLINE_SECONDS, x_disable_stats=True
            ),
        }
        self._run, failure = _begun(wandb.init, options, between=wandb.teardown)
        folder = Path(self._run.dir).parent
        return _recorded("wandb", failure, f"wandb sync {folder}") if failure else None

    def log(self, step: int, figures: Mapping[str, float]) -> None:
        self._run.log(dict(figures), step=step)

    def log_text(self, step: int, text: str) -> None:
        table = self._table(columns=["step", "sample"], data=[[step, text]])
        self._run.log({"sample": table}, step=step)

    def flush(self) -> None:
        """Its own process has what was reported."""

    def end(self, state: State, message: str, summary: Mapping[str, float]) -> None:
        self._run.summary.update({**summary, "state": state, "message": message})
        self._run.finish(exit_code=1 if state == "failed" else 0)


class SwanLab:
    """SwanLab's service where the user is logged in, or else a folder in the run's."""

    rewinds = False

    def start(self, run: Reported) -> str | None:
        swanlab = import_module("swanlab")
        self._text = swanlab.Text
        options = {**_identity(run), "log_dir": str(run.folder / "swanlog")}
        self._run, failure = _begun(swanlab.init, options)
        return _recorded("swanlab", failure, f"swanlab sync {self._run.dir}") if failure else None

    def log(self, step: int, figures: Mapping[str, float]) -> None:
        self._run.log(dict(figures), step=step)

    def log_text(self, step: int, text: str) -> None:
        self._run.log({"sample": self._text(text)}, step=step)

    def flush(self) -> None:
        """It writes by itself."""

    def end(self, state: State, message: str, summary: Mapping[str, float]) -> None:
        states = {"finished": "success", "stopped": "aborted", "failed": "crashed"}
        error = {"error": message} if state == "failed" else {}
        self._run.finish(state=states[state], **error)


SERVICES: Final[Mapping[str, Callable[[], Service]]] = {
    "tensorboard": TensorBoard,
    "trackio": Trackio,
    "wandb": Wandb,
    "swanlab": SwanLab,
}


def _identity(run: Reported) -> dict[str, Any]:
    """How wandb and SwanLab know a run."""
    return {
        "project": run.project,
        "name": run.name,
        "id": run.id,
        "resume": "allow",
        "config": dict(run.config),
    }


def _begun(
    init: Callable[..., Any],
    options: Mapping[str, Any],
    *,
    between: Callable[[], object] = lambda: None,
) -> tuple[Any, Exception | None]:
    """A run at the service, or on disk and why: no login, no network, or a server's refusal."""
    try:
        return init(**options), None
    except Exception as error:
        between()
        return init(**options, mode="offline"), error


def _recorded(name: str, error: Exception, command: str) -> str | None:
    """That a run is recorded on disk, unless the user's own variable says so."""
    if os.environ.get(f"{name.upper()}_MODE"):
        return None
    reason = (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")
    return f"{name} records this session on disk ({reason}); {command} uploads it."
