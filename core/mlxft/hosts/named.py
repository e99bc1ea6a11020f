"""The value of the recipe's `hosts` as ranks: a number, names with addresses, or a hostfile."""

from __future__ import annotations

from typing import Final, NamedTuple

from mlxft.errors import RecipeError
from mlxft.hosts.hostfile import read_hostfile
from mlxft.hosts.names import check_alone, check_count, check_name, is_address
from mlxft.hosts.types import HERE, Host, Hosts, local
from mlxft.storage.paths import expanded
from mlxft.text.printable import printable_line


def hosts_of(value: int | str) -> Hosts:
    """The ranks that a recipe's `hosts` names; reads the hostfile if it is one.

    Raises `RecipeError`.
    """
    check_hosts(value)
    if isinstance(value, int):
        return local(value)
    if is_hostfile(value):
        return read_hostfile(expanded(value))
    return Hosts(ranks=tuple(_host(part.strip()) for part in value.split(",")))


class RankCount(NamedTuple):
    """Ranks of a run, and those of them on the first rank's machine."""

    all: int = 1
    here: int = 1


ONE_RANK: Final = RankCount()


def rank_count(value: int | str) -> RankCount:
    """How many ranks a recipe's `hosts` names; one where its hostfile can't be read."""
    try:
        hosts = hosts_of(value)
    except RecipeError:
        return ONE_RANK
    return RankCount(hosts.count, hosts.ranks_here)


def check_hosts(value: int | str) -> None:
    """Raises `RecipeError` for what names no hosts; a hostfile is read only by `hosts_of`."""
    if isinstance(value, int) or is_hostfile(value):
        return
    hosts = [_host(part.strip()) for part in value.split(",")]
    check_count(len(hosts), "hosts")
    check_alone(hosts, "hosts")


def is_hostfile(value: str) -> bool:
    """Whether a text is the path of a hostfile and not a list of names."""
    return "/" in value or value.endswith(".json")


def _host(text: str) -> Host:
    if not text:
        raise RecipeError("hosts has an empty name; remove the comma before or after it.")
    name, at, address = text.partition("@")
    if at and not is_address(address):
        raise RecipeError(
            f"hosts has {printable_line(text)}, where {printable_line(address) or 'nothing'} after "
            "the @ is not an IP address; write name@10.0.0.2, and put a user into ~/.ssh/config."
        )
    check_name(name, "hosts")
    if name.isdecimal():
        raise RecipeError(
            f"hosts: write {name} alone for {name} processes here, or names of machines between "
            "commas."
        )
    if name == "localhost":
        name, address = HERE, address or HERE
    return Host(name=name, addresses=tuple(filter(None, [address or _own_address(name)])))


def _own_address(name: str) -> str:
    return name if is_address(name) else ""
