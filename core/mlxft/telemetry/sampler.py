"""Sample this machine from all available sources."""

from __future__ import annotations

import logging
import sys
import threading
import time
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from typing import Protocol

from mlxft.telemetry.apple import Apple
from mlxft.telemetry.host import Host
from mlxft.telemetry.nvidia import Nvidia
from mlxft.telemetry.sample import Figures, Sample

_log = logging.getLogger(__name__)


class Source(Protocol):
    """Provides part of a sample; if it raises, its figures are missing from that sample."""

    def read(self) -> Figures: ...


def machine_sources(gpu_uuid: str | None = None) -> list[Source]:
    """The sources of this machine; later ones override earlier ones."""
    if sys.platform == "darwin":
        return [Host(), Apple()]
    return [Host(), Nvidia(gpu_uuid)] if find_spec("pynvml") else [Host()]


class Sampler:
    """Samples the machine on demand; one thread at a time.

    Never raises. Takes up to two seconds if an Apple tool hangs, so call it in a thread. `gpu_uuid`
    selects one of several NVIDIA GPUs.
    """

    def __init__(
        self,
        gpu_uuid: str | None = None,
        sources: Sequence[Source] | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._sources = machine_sources(gpu_uuid) if sources is None else list(sources)
        self._clock = clock
        self._lock = threading.Lock()

    def sample(self) -> Sample:
        """The current state; a source that fails leaves its figures None."""
        figures = Figures()
        with self._lock:
            for source in self._sources:
                figures.update(_figures(source))
        return Sample(time=self._clock(), **figures)

    def close(self) -> None:
        """Close the sources; later samples are empty."""
        with self._lock:
            for source in self._sources:
                close = getattr(source, "close", None)
                if close is not None:
                    close()
            self._sources = []


def _figures(source: Source) -> Figures:
    try:
        return source.read()
    except Exception as error:
        # A missing figure is shown as such; it must not fail anything else.
        _log.debug("%s: %s", type(source).__name__, error)
        return Figures()
