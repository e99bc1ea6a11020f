"""Two network namespaces and the link between them: ``delayed_link.py SECONDS ADDRESS ADDRESS``.

Packets arrive that many seconds after they were sent. The namespaces belong to this process, so
nothing is left of them when it ends, which it does with its standard input; a line there cuts the
link. Needs root, on Linux; the standard output says in JSON where both namespaces are.
"""

from __future__ import annotations

import ctypes
import fcntl
import json
import os
import struct
import subprocess
import sys
import time
from collections import deque
from select import select
from typing import Final

_NEW_NETWORK: Final = 0x40000000
_SET_INTERFACE: Final = 0x400454CA
_PACKETS_ALONE: Final = 0x1001
"""An interface whose file has IP packets, without a header."""

_NAME: Final = "link"
_LARGEST_PACKET: Final = 9000
_ORDERS: Final = 0


def main() -> None:
    """Make both ends, say where they are, and forward packets between them."""
    delay, *addresses = sys.argv[1:]
    made = [_end(own, other) for own, other in (addresses, addresses[::-1])]
    print(json.dumps([f"/proc/{os.getpid()}/fd/{namespace}" for namespace, _ in made]), flush=True)
    _forward([device for _, device in made], float(delay))


def _end(own: str, other: str) -> tuple[int, int]:
    """Descriptors of a new namespace and of the packets that leave and enter it."""
    if ctypes.CDLL(None).unshare(_NEW_NETWORK):
        raise SystemExit("network namespaces can't be made here")
    device = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    fcntl.ioctl(device, _SET_INTERFACE, struct.pack("16sH22x", _NAME.encode(), _PACKETS_ALONE))
    for command in (
        ("link", "set", "dev", "lo", "up"),
        ("address", "add", own, "peer", other, "dev", _NAME),
        ("link", "set", "dev", _NAME, "mtu", str(_LARGEST_PACKET), "up"),
    ):
        subprocess.run(("ip", *command), check=True)
    return os.open("/proc/self/ns/net", os.O_RDONLY), device


def _forward(devices: list[int], delay: float) -> None:
    first, second = devices
    # To each end, the packets on their way and when they arrive.
    waiting: dict[int, deque[tuple[float, bytes]]] = {first: deque(), second: deque()}
    to = {first: waiting[second], second: waiting[first]}
    is_cut = False
    while True:
        due = min((each[0][0] for each in waiting.values() if each), default=None)
        patience = None if due is None else max(0.0, due - time.monotonic())
        readable, _, _ = select([_ORDERS, *devices], [], [], patience)
        if _ORDERS in readable:
            if not os.read(_ORDERS, 100):
                return
            is_cut = True
        for device in readable:
            if device != _ORDERS:
                packet = os.read(device, _LARGEST_PACKET)
                to[device].append((time.monotonic() + delay, packet))
        for device, packets in waiting.items():
            while packets and (is_cut or packets[0][0] <= time.monotonic()):
                _, packet = packets.popleft()
                if not is_cut:
                    os.write(device, packet)


if __name__ == "__main__":
    main()
