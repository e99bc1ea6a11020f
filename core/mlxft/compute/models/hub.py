"""Downloads models from the Hugging Face hub."""

from __future__ import annotations

import io
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from huggingface_hub import snapshot_download
from huggingface_hub.errors import (  # type: ignore[attr-defined]
    GatedRepoError,
    HfHubHTTPError,
    HTTPError,
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
)
from mlx_lm.utils import DEFAULT_ALLOW_PATTERNS
from tqdm.std import tqdm  # type: ignore[import-untyped]

from mlxft.errors import ModelError, StorageError
from mlxft.runs.events import ProgressMade

_SECONDS_BETWEEN_REPORTS = 0.25
_progress_lock = threading.RLock()
"""Files are downloaded in several threads."""


def download(model: str, on_progress: Callable[[ProgressMade], object]) -> Path:
    """The folder of a hub model; files in the hub's cache are not downloaded again.

    Raises `ModelError` if the model doesn't exist, isn't accessible or the hub can't be reached,
    and `StorageError` on a full disk.
    """
    try:
        folder = snapshot_download(
            model,
            allow_patterns=DEFAULT_ALLOW_PATTERNS,
            tqdm_class=_progress_class(model, on_progress),
        )
    except GatedRepoError:
        raise ModelError(
            f"{model}: this model is gated; accept its licence on huggingface.co and run "
            "hf auth login."
        ) from None
    except RepositoryNotFoundError:
        raise ModelError(
            f"{model}: there is no folder and no Hugging Face model of this name; "
            "check the spelling, or run hf auth login if it is private."
        ) from None
    except (LocalEntryNotFoundError, OfflineModeIsEnabled):
        raise ModelError(
            f"{model}: the Hugging Face hub can't be reached and the model is not in its cache; "
            "go online, or choose a local folder or demo."
        ) from None
    except HfHubHTTPError as error:
        status = error.response.status_code if error.response is not None else "no answer"
        raise ModelError(
            f"{model}: the Hugging Face hub refused the download ({status}); try again later."
        ) from None
    except (OSError, HTTPError) as error:
        if isinstance(error, OSError) and error.errno is not None and error.filename is not None:
            raise StorageError(
                f"{error.filename}: the model can't be stored ({error.strerror}); free disk space."
            ) from None
        raise ModelError(
            f"{model}: the download failed; check the connection and try again."
        ) from None
    return Path(folder)


def _progress_class(model: str, on_progress: Callable[[ProgressMade], object]) -> Any:
    """A progress bar that reports the bytes on disk instead of drawing."""

    class Progress(tqdm):  # type: ignore[misc]
        monitor_interval = 0

        def __init__(self, *args: Any, **options: Any) -> None:
            # The hub counts bytes twice: as they arrive, and as they are written.
            written = not str(options.get("desc")).startswith("Downloading")
            self._counts = options.get("unit") == "B" and written
            self._reported = 0.0
            super().__init__(*args, **options | {"file": io.StringIO()})

        def display(self, *_: Any, **__: Any) -> None:
            pass

        def update(self, n: float | None = 1) -> bool | None:
            with _progress_lock:
                drawn: bool | None = super().update(n)
                now = time.monotonic()
                due = now - self._reported >= _SECONDS_BETWEEN_REPORTS or self.n == self.total
                if self._counts and due:
                    self._reported = now
                    total = int(self.total) if self.total else None
                    on_progress(
                        ProgressMade(stage="downloading", done=int(self.n), total=total, note=model)
                    )
            return drawn

    Progress.set_lock(_progress_lock)
    return Progress
