"""What ranks find each other by."""

from __future__ import annotations

import json
import shlex

import pytest

from mlxft.engine import rank_network
from mlxft.engine.ports import free_ports
from mlxft.errors import RunError
from mlxft.hosts import Host, Hosts, hosts_of

TWO = Hosts(
    ranks=(
        Host(name="mac-a", addresses=("10.0.0.1",)),
        Host(name="mac-b", addresses=("10.0.0.2",)),
    ),
    environment=("MLX_METAL_FAST_SYNCH=1",),
)


class TestJoins:
    def test_the_ring_has_the_address_and_a_free_port_of_each(self) -> None:
        first, second = rank_network.joins("ring", TWO, [[20001, 20002], [20003, 20004]])
        assert json.loads(first.files["MLX_HOSTFILE"]) == [["10.0.0.1:20001"], ["10.0.0.2:20003"]]
        assert first.files == second.files
        assert (first.environment["MLX_RANK"], second.environment["MLX_RANK"]) == ("0", "1")

    def test_nccl_has_the_first_ranks_address(self) -> None:
        _, second = rank_network.joins("nccl", TWO, [[20001], [20003]])
        assert second.environment == {
            "MLX_RANK": "1",
            "MLX_WORLD_SIZE": "2",
            "NCCL_HOST_IP": "10.0.0.1",
            "NCCL_PORT": "20001",
        }

    def test_another_backend_is_refused(self) -> None:
        with pytest.raises(RunError, match="mpi aren't supported; use ring"):
            rank_network.joins("mpi", TWO, [[20001], [20003]])


class TestLocalRanks:
    def test_each_has_a_gpu_of_the_ones_that_are_visible(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,6")
        found = [rank_network.environment(hosts_of(3), rank) for rank in range(3)]
        assert [each["CUDA_VISIBLE_DEVICES"] for each in found] == ["4", "6", "2"]

    def test_one_process_has_all(self) -> None:
        assert rank_network.environment(hosts_of(1), 0) == {}
        assert rank_network.environment(TWO, 1) == {"MLX_METAL_FAST_SYNCH": "1"}

    def test_ranks_of_another_machine_share_its_gpus_too(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,6")
        hosts = hosts_of("here@10.0.0.1, there@10.0.0.2, there@10.0.0.2")
        found = [rank_network.environment(hosts, rank) for rank in range(3)]
        assert found == [{}, {"CUDA_VISIBLE_DEVICES": "0"}, {"CUDA_VISIBLE_DEVICES": "1"}]


class TestRemoteRanks:
    def test_they_start_by_the_launchers_script_with_the_hostfiles_environment(self) -> None:
        variables = rank_network.environment(TWO, 1)
        started = ["python", "-m", "it's", "1"]
        *ssh, host, command = rank_network.through_ssh(TWO.ranks[1], variables, started)
        assert (ssh[0], host) == ("ssh", "mac-b")
        script = shlex.split(command)[-1]
        assert "export MLX_METAL_FAST_SYNCH=1;" in script
        assert script.endswith('exec "${cmd[@]}"')


class TestFreePorts:
    def test_they_are_different_and_not_those_of_other_connections(self) -> None:
        found = free_ports(8)
        assert len(set(found)) == 8
        assert all(20_000 <= each < 32_000 for each in found)
