"""How ranks find each other: the environment that mlx.launch gives them, and their connections."""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import socket
import stat
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Final

from mlxft.errors import RunError
from mlxft.hosts import Host, Hosts

if TYPE_CHECKING:
    from mlxft.compute.training.rank_orders import Join

_SSH: Final = (
    *("ssh", "-o", "BatchMode=yes", "-o", "LogLevel=ERROR"),
    *("-o", "ConnectTimeout=20", "-o", "ServerAliveInterval=5"),
)


def is_local(hosts: Hosts, rank: int) -> bool:
    """Whether a rank is on this machine, which is rank 0's."""
    return hosts.ranks[rank].is_here or hosts.ranks[rank].name == hosts.ranks[0].name


def environment(hosts: Hosts, rank: int) -> dict[str, str]:
    """Variables to set before MLX is loaded: those of a hostfile, and the rank's own GPU.

    On this machine also its share of the cores. Empty for one process.
    """
    if hosts.count == 1:
        return {}
    pairs = (each.partition("=") for each in hosts.environment)
    found = {name: value for name, _, value in pairs}
    name = hosts.ranks[rank].name
    beside = [number for number, each in enumerate(hosts.ranks) if each.name == name]
    if len(beside) == 1:
        return found
    at, here = beside.index(rank), is_local(hosts, rank)
    visible = os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if here else []
    own = visible[at] if at < len(visible) and visible[at] else str(at)
    found.setdefault("CUDA_VISIBLE_DEVICES", own)
    if here and "OPENBLAS_NUM_THREADS" not in os.environ:
        found["OPENBLAS_NUM_THREADS"] = str(max(1, (os.cpu_count() or 1) // len(beside)))
    return found


def joins(backend: str, hosts: Hosts, ports: Sequence[Sequence[int]]) -> list[Join]:
    """What each rank joins the others by, with free `ports` of each.

    Raises `RunError` for a backend that isn't supported, or a host without an address.
    """
    from mlxft.compute.training.rank_orders import Join

    files: dict[str, str] = {}
    shared: dict[str, str] = {}
    first = _addresses(hosts.ranks[0])[0]
    match backend:
        case "ring":
            addresses = [
                [f"{address}:{port}" for address, port in zip(_addresses(host), own, strict=False)]
                for host, own in zip(hosts.ranks, ports, strict=True)
            ]
            files["MLX_HOSTFILE"] = json.dumps(addresses)
        case "nccl":
            shared = {
                "MLX_WORLD_SIZE": str(hosts.count),
                "NCCL_HOST_IP": first,
                "NCCL_PORT": str(ports[0][0]),
            }
        case "jaccl" | "jaccl-ring":
            files["MLX_IBV_DEVICES"] = json.dumps([each.rdma for each in hosts.ranks])
            shared = {"MLX_JACCL_COORDINATOR": f"{first}:{ports[0][0]}"}
            if backend == "jaccl-ring":
                shared["MLX_JACCL_RING"] = "1"
        case _:
            raise RunError(f"Ranks over {backend} aren't supported; use ring, jaccl or nccl.")
    name = "jaccl" if backend == "jaccl-ring" else backend
    return [
        Join(backend=name, environment={**shared, "MLX_RANK": str(rank)}, files=files)
        for rank in range(hosts.count)
    ]


def _addresses(host: Host) -> Sequence[str]:
    if host.addresses:
        return host.addresses
    try:
        return [str(socket.getaddrinfo(host.name.split("@")[-1], None)[0][4][0])]
    except OSError as error:
        raise RunError(
            f"{host.name} has no known address ({error.strerror}); name one in hosts, as "
            f"{host.name}@10.0.0.2."
        ) from None


def through_ssh(host: Host, variables: Mapping[str, str], command: Sequence[str]) -> list[str]:
    """The command that runs another one on a machine, with these variables, as mlx.launch does."""
    from mlxft.compute.training.remote_start import start_script

    script = start_script(variables, command)
    return [*_SSH, host.name, f"exec bash -c {shlex.quote(script)}"]


def disconnect(ports: Sequence[int]) -> None:
    """Shut down this process's connections from and to the ring's ports.

    A sum that waits for a rank whose machine doesn't answer any more would wait for ever.
    """
    for found in _connections():
        with contextlib.suppress(OSError, IndexError), found:
            if found.getsockname()[1] in ports or found.getpeername()[1] in ports:
                found.shutdown(socket.SHUT_RDWR)


def _connections() -> list[socket.socket]:
    """Copies of this process's connected TCP sockets."""
    found = []
    with contextlib.suppress(OSError):
        for name in os.listdir("/dev/fd"):
            with contextlib.suppress(OSError, ValueError):
                if stat.S_ISSOCK(os.fstat(int(name)).st_mode):
                    found.append(socket.socket(fileno=os.dup(int(name))))
    return found
