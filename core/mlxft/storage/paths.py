"""Where the application keeps its own files: cache, sockets, logs."""

from __future__ import annotations

import os
import stat
import sys
import tempfile
from pathlib import Path

import platformdirs

import mlxft
from mlxft.errors import StorageError


def expanded(text: str) -> Path:
    """A path with ``~`` expanded; an unknown ``~user`` is kept."""
    return Path(os.path.expanduser(text))


def cache_dir() -> Path:
    """Imported models, converted data and compiled kernels; ``MLXFT_CACHE`` overrides it."""
    return Path(os.environ.get("MLXFT_CACHE") or platformdirs.user_cache_dir("mlxft", False))


def demo_model() -> Path:
    """The folder of the demo's model once it is imported."""
    return cache_dir() / "models" / "SmolLM2-135M-Instruct"


def peaks_file() -> Path:
    """Peak memory of runs on this machine; ``MLXFT_PEAKS`` overrides it."""
    own = os.environ.get("MLXFT_PEAKS")
    return Path(own) if own else Path(platformdirs.user_data_dir("mlxft", False)) / "peaks.jsonl"


def checks_file() -> Path:
    """What checks of models found on this machine, beside the peaks."""
    return peaks_file().with_name("checks.json")


def keys_file() -> Path:
    """The user's keys; ``MLXFT_CONFIG`` overrides its folder."""
    root = os.environ.get("MLXFT_CONFIG") or platformdirs.user_config_dir("mlxft", False)
    return Path(root) / "keys.toml"


def notifications_file() -> Path:
    """What the user is notified of, beside the keys."""
    return keys_file().with_name("notifications.toml")


def log_file() -> Path:
    """The application's own log, where tracebacks go."""
    root = os.environ.get("MLXFT_LOGS") or platformdirs.user_log_dir("mlxft", False)
    return Path(root) / "mlxft-tui.log"


def state_path() -> Path:
    """What must be found again whatever the session's environment; ``MLXFT_STATE`` overrides it."""
    return Path(os.environ.get("MLXFT_STATE") or platformdirs.user_state_dir("mlxft", False))


def state_dir() -> Path:
    """`state_path`, made if it isn't there. Raises `StorageError` if it can't be written."""
    return writable(state_path(), "MLXFT_STATE")


def runtime_path() -> Path:
    """A private folder for control sockets, short enough for macOS's 104-byte limit.

    ``MLXFT_RUNTIME`` overrides it.
    """
    return Path(os.environ.get("MLXFT_RUNTIME") or _default_runtime_path())


def runtime_dir() -> Path:
    """`runtime_path`, made if it isn't there.

    Raises `StorageError` if it can't be written, or others can access it.
    """
    path = writable(runtime_path(), "MLXFT_RUNTIME")
    found = path.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or found.st_mode & 0o077:
        raise StorageError(f"{path}: others can access this folder; run chmod 700 on it.")
    return path


def writable(path: Path, variable: str) -> Path:
    """A folder, made for its owner alone if it isn't there; `variable` can be set to another.

    Raises `StorageError` if it can't be written.
    """
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        reason = "" if os.access(path, os.W_OK | os.X_OK) else "no permission or a read-only disk"
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
    if reason:
        raise StorageError(
            f"{path}: this folder can't be written ({reason}); check its permissions and its "
            f"disk's free space, or set {variable} to another folder."
        )
    return path


def _default_runtime_path() -> Path:
    xdg = os.environ.get("XDG_RUNTIME_DIR")
    if sys.platform == "linux" and xdg and os.access(xdg, os.W_OK):
        return Path(xdg) / "mlxft"
    return Path(tempfile.gettempdir()) / f"mlxft-{os.getuid()}"


def sample_data() -> Path:
    """The sample dataset's folder: inside the wheel, or ``data`` in the checkout."""
    package = Path(mlxft.__file__).parent
    shipped = package / "sample_data"
    return shipped if shipped.is_dir() else package.parents[1] / "data"
