"""The ranks of a run and the machines that they live on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

Backend = Literal["ring", "jaccl", "jaccl-ring", "nccl", "mpi"]

HERE: Final = "127.0.0.1"
"""The name of this machine for mlx.launch, which starts such a rank without SSH."""

Rdma = str | tuple[str, ...] | None
"""The RDMA devices that reach another rank over jaccl; None for a rank itself."""


@dataclass(frozen=True, kw_only=True)
class Host:
    """The machine of one rank: its name for SSH, and the addresses by which ranks reach it.

    Without addresses the name has to be resolved. `rdma` has an entry for each rank.
    """

    name: str
    addresses: tuple[str, ...] = ()
    rdma: tuple[Rdma, ...] = ()

    @property
    def is_here(self) -> bool:
        """Whether it is this machine by its name alone."""
        return self.name in (HERE, "localhost")


@dataclass(frozen=True, kw_only=True)
class Hosts:
    """The machine of each rank, in the order of ranks; rank 0 is on this machine.

    `backend` is MLX's choice if None. `environment` has ``NAME=VALUE`` for every rank.
    """

    ranks: tuple[Host, ...]
    backend: Backend | None = None
    environment: tuple[str, ...] = ()

    @property
    def count(self) -> int:
        """The number of ranks."""
        return len(self.ranks)

    @property
    def machines(self) -> tuple[Host, ...]:
        """Each machine once, in the order of its first rank."""
        return tuple({host.name: host for host in reversed(self.ranks)}.values())[::-1]

    @property
    def is_one_machine(self) -> bool:
        """Whether all ranks are on this machine."""
        return all(host.is_here for host in self.ranks)

    @property
    def ranks_here(self) -> int:
        """How many ranks share the first rank's machine and so its memory."""
        return sum(host.name == self.ranks[0].name for host in self.ranks)


def local(processes: int) -> Hosts:
    """So many ranks on this machine."""
    return Hosts(ranks=(Host(name=HERE, addresses=(HERE,)),) * processes)
