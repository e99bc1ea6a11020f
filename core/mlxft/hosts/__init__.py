"""Where the processes (ranks) of a run live: this machine, machines by name, or an mlx hostfile."""

from mlxft.hosts.named import ONE_RANK, RankCount, check_hosts, hosts_of, rank_count
from mlxft.hosts.types import Backend, Host, Hosts

__all__ = [
    "ONE_RANK",
    "Backend",
    "Host",
    "Hosts",
    "RankCount",
    "check_hosts",
    "hosts_of",
    "rank_count",
]
