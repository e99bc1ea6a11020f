"""The device of this process, as figures name it, and the plain way beside it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import mlx.core as mx

from mlxft.compute import backend
from mlxft.self_test.figures import Device


def device() -> Device:
    """Its kind and name, and mlx's version."""
    return Device(kind=backend.kind(), name=backend.device_name(), mlx=backend.versions()["mlx"])


@contextmanager
def on_cpu() -> Iterator[None]:
    """Compute on the CPU, whatever the device, without what MLX would compile for it: that takes a
    C++ compiler, which few Macs have."""
    mx.disable_compile()
    try:
        with mx.stream(mx.Device(mx.cpu)):
            yield
    finally:
        if backend.kind() != "cpu":
            mx.enable_compile()
