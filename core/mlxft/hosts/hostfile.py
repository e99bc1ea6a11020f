"""MLX's hostfile: JSON with a list of hosts, alone or beside a backend and environment."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, get_args

from mlxft.errors import RecipeError
from mlxft.hosts.names import check_alone, check_count, check_name, is_address
from mlxft.hosts.types import HERE, Backend, Host, Hosts, Rdma
from mlxft.storage.regular_files import LARGEST_CONFIG, read_regular
from mlxft.text.printable import printable_line

_BACKENDS: Final[tuple[Backend, ...]] = get_args(Backend)

_VARIABLE: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*(=.*)?", re.DOTALL)


def read_hostfile(path: Path) -> Hosts:
    """The ranks of a hostfile as mlx.launch and mlx.distributed_config write and read it.

    Raises `RecipeError` with the file's name.
    """
    try:
        text = read_regular(path, LARGEST_CONFIG)
    except OSError as error:
        raise RecipeError(
            f"hosts: {path} can't be read ({error.strerror}); check the path."
        ) from None
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        raise RecipeError(
            f"hosts: {path} is not JSON; mlx.distributed_config writes such a file, or write "
            '[{"ssh": "mac-a", "ips": ["10.0.0.1"]}, ...].'
        ) from None
    return parsed_hostfile(found, str(path))


def parsed_hostfile(found: object, place: str) -> Hosts:
    """The ranks of a hostfile's JSON. Raises `RecipeError` with its place."""
    whole: Mapping[str, Any] = found if isinstance(found, Mapping) else {"hosts": found}
    listed = whole.get("hosts")
    if not isinstance(listed, list) or not listed:
        raise RecipeError(
            f"hosts: {place} has no list of hosts; write "
            '[{"ssh": "mac-a", "ips": ["10.0.0.1"]}, ...].'
        )
    if all(isinstance(each, list) for each in listed):
        raise RecipeError(
            f"hosts: {place} has addresses alone, the form that only MLX_HOSTFILE takes; write "
            '{"ssh": "mac-a", "ips": ["10.0.0.1"]} for each host.'
        )
    check_count(len(listed), f"hosts: {place}")
    hosts = Hosts(
        ranks=tuple(_host(each, f"hosts: {place}, host {n}") for n, each in enumerate(listed, 1)),
        backend=_backend(whole.get("backend"), place),
        environment=_environment(whole.get("envs"), place),
    )
    if not hosts.is_one_machine:
        check_alone(hosts.ranks, f"hosts: {place}")
    _check_addresses(hosts, place)
    return hosts


def _check_addresses(hosts: Hosts, place: str) -> None:
    """Raise `RecipeError` where a ring would have other links of one host than of the next."""
    if hosts.backend in ("jaccl", "jaccl-ring"):
        return  # Only the first host's address counts.
    counts = [len(each.addresses) or 1 for each in hosts.ranks]
    for host, count in zip(hosts.ranks, counts, strict=True):
        if count != counts[0]:
            raise RecipeError(
                f'hosts: {place} has {count} "ips" for {host.name} and {counts[0]} for '
                f"{hosts.ranks[0].name}; give each host the same number."
            )


def _host(found: object, place: str) -> Host:
    if not isinstance(found, Mapping) or not isinstance(found.get("ssh"), str):
        raise RecipeError(f'{place} has no "ssh"; give the name by which ssh reaches it.')
    check_name(found["ssh"], place)
    return Host(
        name=HERE if found["ssh"] == "localhost" else found["ssh"],
        addresses=_addresses(found.get("ips"), place),
        rdma=_rdma(found.get("rdma"), place),
    )


def _addresses(found: object, place: str) -> tuple[str, ...]:
    listed = [] if found is None else found
    if not isinstance(listed, list):
        raise RecipeError(f'{place} has "ips" that is not a list; write ["10.0.0.1"].')
    for each in listed:
        if not isinstance(each, str) or not is_address(each):
            raise RecipeError(
                f'{place} has {printable_line(str(each))} in "ips", which is not an IP address; '
                'write one as "10.0.0.1".'
            )
    return tuple(listed)


def _rdma(found: object, place: str) -> tuple[Rdma, ...]:
    listed = [] if found is None else found
    if not isinstance(listed, list) or not all(map(_is_device, listed)):
        raise RecipeError(
            f'{place} has "rdma" that is not a list of devices; write [null, "rdma_en2"], or run '
            "mlx.distributed_config again."
        )
    return tuple(tuple(each) if isinstance(each, list) else each for each in listed)


def _is_device(found: object) -> bool:
    several = found if isinstance(found, list) else [found] if found is not None else []
    return all(isinstance(each, str) for each in several)


def _backend(found: object, place: str) -> Backend | None:
    if found in (None, ""):
        return None
    known = next((each for each in _BACKENDS if each == found), None)
    if known is None:
        raise RecipeError(
            f"hosts: {place} has the backend {printable_line(str(found))}; it must be one of "
            f"{', '.join(_BACKENDS)}."
        )
    return known


def _environment(found: object, place: str) -> tuple[str, ...]:
    listed = [] if found is None else found
    if not isinstance(listed, list):
        raise RecipeError(f'hosts: {place} has "envs" that is not a list; write ["NAME=VALUE"].')
    for each in listed:
        if not isinstance(each, str) or not _VARIABLE.fullmatch(each) or "\0" in each:
            raise RecipeError(
                f'hosts: {place} has {printable_line(str(each))} in "envs"; write "NAME=VALUE".'
            )
    return tuple(listed)
