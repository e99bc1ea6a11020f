"""Who is at the other end of a Unix socket."""

from __future__ import annotations

import socket
import struct
import sys


def peer_uid(connection: socket.socket) -> int:
    """The user at the other end of a Unix socket."""
    if sys.platform == "linux":
        credentials = connection.getsockopt(
            socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i")
        )
        return int(struct.unpack("3i", credentials)[1])
    # struct xucred of macOS: version, uid, then the groups; level 0 and option 1 are
    # SOL_LOCAL and LOCAL_PEERCRED, which Python doesn't name.
    credentials = connection.getsockopt(0, 1, 76)
    return int(struct.unpack_from("II", credentials)[1])
