"""Free ports for the ranks of a run."""

from __future__ import annotations

import random
import socket
from typing import Final

_RANGE: Final = (20_000, 32_000)
"""Below the ports that Linux and macOS give to connections on their own."""


def free_ports(count: int) -> list[int]:
    """Ports of this machine on which nothing listens, chosen at random."""
    found: list[int] = []
    for port in random.SystemRandom().sample(range(*_RANGE), _RANGE[1] - _RANGE[0]):
        if len(found) == count:
            break
        if _is_free(port):
            found.append(port)
    return found


def _is_free(port: int) -> bool:
    with socket.socket() as tried:
        try:
            tried.bind(("", port))
        except OSError:
            return False
    return True
