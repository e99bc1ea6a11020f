"""Has the system start the supervisor after a login or a reboot, and again if it was killed."""

from __future__ import annotations

import contextlib
import os
import plistlib
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from mlxft.errors import EngineError, StorageError
from mlxft.queue.start import refuse_sudo
from mlxft.queue.store import own_store
from mlxft.storage.atomic_files import write_atomically

LABEL: Final = "mlxft-tui.queue"
"""Of the LaunchAgent."""
UNIT: Final = "mlxft-queue"
"""Of systemd's service and timer."""

INTERVAL_SECONDS: Final = 300
"""How often the system starts the supervisor, which ends at once if nothing waits."""

COMMAND_SECONDS: Final = 20.0

_KEPT: Final = ("PATH", "HF_HOME", "HF_HUB_CACHE", "XDG_STATE_HOME", "XDG_CACHE_HOME")


@dataclass(frozen=True, kw_only=True)
class Service:
    """The files that the system reads, and the commands that make it read or forget them."""

    files: Mapping[Path, str]
    start: Sequence[Sequence[str]]
    stop: Sequence[Sequence[str]]


def service(
    system: str,
    *,
    home: Path,
    config: Path,
    user: int,
    python: str,
    log: Path,
    environment: Mapping[str, str],
) -> Service:
    """The service of a system, `darwin` or any with systemd.

    `config` is the folder of the user's settings, `log` the file for the supervisor's output.
    """
    kept = {
        name: value
        for name, value in sorted(environment.items())
        if name in _KEPT or name.startswith("MLXFT_")
    }
    if system == "darwin":
        return _launch_agent(home / "Library" / "LaunchAgents", user, python, log, kept)
    return _systemd_units(config / "systemd" / "user", python, log, kept)


def _launch_agent(
    folder: Path, user: int, python: str, log: Path, environment: Mapping[str, str]
) -> Service:
    agent = {
        "Label": LABEL,
        "ProgramArguments": [python, "-P", "-m", "mlxft.queue"],
        "RunAtLoad": True,
        "StartInterval": INTERVAL_SECONDS,
        # Engines outlive the supervisor that has started them.
        "AbandonProcessGroup": True,
        # Any other type slows down what the agent starts: the engines.
        "ProcessType": "Interactive",
        "EnvironmentVariables": dict(environment),
        "WorkingDirectory": str(log.parent),
        "StandardOutPath": str(log),
        "StandardErrorPath": str(log),
    }
    file = folder / f"{LABEL}.plist"
    return Service(
        files={file: plistlib.dumps(agent).decode()},
        start=[["launchctl", "bootstrap", f"gui/{user}", str(file)]],
        stop=[["launchctl", "bootout", f"gui/{user}/{LABEL}"]],
    )


def _systemd_units(folder: Path, python: str, log: Path, environment: Mapping[str, str]) -> Service:
    variables = "".join(
        f"Environment={_quoted(f'{name}={value}')}\n" for name, value in environment.items()
    )
    unit = (
        "[Unit]\n"
        "Description=Starts the waiting runs of mlxft-tui\n\n"
        "[Service]\n"
        f"ExecStart={_quoted(python).replace('$', '$$')} -P -m mlxft.queue\n"
        f"StandardOutput=append:{_literal(log)}\n"
        f"StandardError=append:{_literal(log)}\n"
        # Engines outlive the supervisor that has started them.
        "KillMode=process\n"
        f"{variables}"
    )
    timer = (
        "[Unit]\n"
        "Description=Checks whether runs of mlxft-tui wait\n\n"
        "[Timer]\n"
        "OnStartupSec=10\n"
        f"OnUnitInactiveSec={INTERVAL_SECONDS}\n\n"
        "[Install]\n"
        "WantedBy=timers.target\n"
    )
    systemctl = ["systemctl", "--user"]
    return Service(
        files={folder / f"{UNIT}.service": unit, folder / f"{UNIT}.timer": timer},
        start=[[*systemctl, "daemon-reload"], [*systemctl, "enable", "--now", f"{UNIT}.timer"]],
        stop=[[*systemctl, "disable", "--now", f"{UNIT}.timer"]],
    )


def _quoted(text: str) -> str:
    """As one word of a systemd unit; a percent sign is a specifier there."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%")
    return f'"{escaped}"'


def _literal(path: Path) -> str:
    return str(path).replace("%", "%%")


def own_service() -> Service:
    """The service for this user, machine and installation. Raises `StorageError`."""
    home = Path.home()
    return service(
        sys.platform,
        home=home,
        config=Path(os.environ.get("XDG_CONFIG_HOME") or home / ".config"),
        user=os.getuid(),
        python=sys.executable,
        log=own_store().log_file,
        environment=os.environ,
    )


def is_installed(found: Service) -> bool:
    """Whether all of its files are there."""
    return all(path.is_file() for path in found.files)


def refuse_root() -> None:
    """Raise `EngineError` for root, whose sessions have none of this, and behind ``sudo``."""
    refuse_sudo()
    if os.geteuid() == 0:
        raise EngineError("The queue isn't installed for root; use an account of your own.")


def install(found: Service) -> None:
    """Write the files and have the system read them.

    Raises `EngineError` for root, or if the system refuses, and `StorageError`.
    """
    refuse_root()
    for path, text in found.files.items():
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(path, text.encode())
        except OSError as error:
            raise StorageError(
                f"{path}: the file can't be written ({error.strerror}); check the folder's "
                "permissions."
            ) from None
    # Neither system reads what it knows already again.
    _forget(found)
    for command in found.start:
        _run(command)


def uninstall(found: Service) -> bool:
    """Have the system forget the files and delete them; False if there were none.

    Runs and queue stay as they are.
    """
    existed = any(path.is_file() for path in found.files)
    if existed:
        _forget(found)
    for path in found.files:
        path.unlink(missing_ok=True)
    return existed


def _forget(found: Service) -> None:
    for command in found.stop:
        # What the system doesn't know needs no stop.
        with contextlib.suppress(EngineError):
            _run(command)


def _run(command: Sequence[str]) -> None:
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, errors="replace", timeout=COMMAND_SECONDS
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise EngineError(f"{command[0]} can't be run ({error}).") from None
    if done.returncode:
        said = " ".join((done.stderr or done.stdout).split()) or f"status {done.returncode}"
        raise EngineError(f"{' '.join(command)} has failed: {said}")
