"""The device of this process, as figures name it."""

from __future__ import annotations

from mlxft.compute import backend
from mlxft.self_test.figures import Device


def device() -> Device:
    """Its kind and name, and mlx's version."""
    return Device(kind=backend.kind(), name=backend.device_name(), mlx=backend.versions()["mlx"])
