"""The recipe's `hosts` as ranks."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from mlxft import recipe as recipes
from mlxft.errors import RecipeError
from mlxft.hosts import Host, hosts_of
from mlxft.recipe import Recipe


def setting(text: str) -> Recipe:
    return recipes.apply_settings(Recipe(), [f"hosts={text}"])


def hostfile(path: Path, content: object) -> str:
    path.write_text(json.dumps(content))
    return str(path)


class TestTheParameter:
    def test_one_process_is_written_nowhere(self) -> None:
        assert hosts_of(Recipe().hosts).count == 1
        assert "hosts" not in recipes.dump(Recipe())
        assert "hosts" not in recipes.to_mapping(Recipe())

    @pytest.mark.parametrize("text", ["2", "mac-a, mac-b@10.0.0.2", "~/pair.json"])
    def test_another_value_is_read_back_from_the_file(self, text: str, tmp_path: Path) -> None:
        recipes.save(setting(text), tmp_path / "recipe.yaml")
        read = recipes.load(tmp_path / "recipe.yaml").hosts
        assert str(read) == text
        assert isinstance(read, int) == text.isdecimal()

    def test_a_number_is_stepped_and_names_are_not(self) -> None:
        assert recipes.step(setting("2"), "hosts", 1).hosts == 3
        assert recipes.step(Recipe(), "hosts", -1).hosts == 1
        assert recipes.step(setting("a, b"), "hosts", 1).hosts == "a, b"

    @pytest.mark.parametrize(
        ("text", "said"),
        [
            ("0", "hosts is 0; it must be a number of processes from 1 to 256, names"),
            ("", "hosts has an empty name"),
            ("a,,b", "hosts has an empty name"),
            ("mac-b", "this-mac, mac-b"),
            ("a, -oProxyCommand=touch", "hosts has the name '-oProxyCommand=touch'"),
            ("a, b;reboot", "consists of letters"),
            ("a, $(reboot)", "consists of letters"),
            ("a, me@mac-b", "write name@10.0.0.2, and put a user into ~/.ssh/config"),
            ("a, b@", "nothing after the @"),
            ("a, \x1b[31mb", "consists of letters"),
            ("2,3", "hosts: write 2 alone for 2 processes here"),
        ],
    )
    def test_anything_else_is_refused_with_the_remedy(self, text: str, said: str) -> None:
        with pytest.raises(RecipeError) as refused:
            setting(text)
        assert said in str(refused.value)
        assert "\x1b" not in str(refused.value)


class TestRanks:
    def test_a_number_is_as_many_ranks_on_this_machine(self) -> None:
        found = hosts_of(4)
        assert (found.count, found.is_one_machine, found.ranks_here) == (4, True, 4)
        assert [each.name for each in found.machines] == ["127.0.0.1"]

    def test_names_have_the_address_behind_them_or_are_one(self) -> None:
        found = hosts_of("mac-a@10.0.0.1, 10.0.0.2, mac-c")
        assert [(each.name, each.addresses) for each in found.ranks] == [
            ("mac-a", ("10.0.0.1",)),
            ("10.0.0.2", ("10.0.0.2",)),
            ("mac-c", ()),
        ]
        assert not found.is_one_machine

    def test_both_forms_of_a_hostfile_are_read(self, tmp_path: Path) -> None:
        listed = [
            {"ssh": "me@mac-a", "ips": ["10.0.0.1", "10.0.1.1"]},
            {"ssh": "mac-b", "ips": ["10.0.0.2", "10.0.1.2"]},
            {"ssh": "mac-b", "ips": ["10.0.0.2", "10.0.1.2"]},
        ]
        plain = hosts_of(hostfile(tmp_path / "plain.json", listed))
        assert plain.ranks[0] == Host(name="me@mac-a", addresses=("10.0.0.1", "10.0.1.1"))
        assert [each.name for each in plain.machines] == ["me@mac-a", "mac-b"]
        rdma = [[None, "rdma_en2"], [["rdma_en2", "rdma_en3"], None]]
        whole = {
            "backend": "jaccl",
            "envs": ["MLX_METAL_FAST_SYNCH=1"],
            "hosts": [{**host, "rdma": way} for host, way in zip(listed, rdma, strict=False)],
        }
        found = hosts_of(hostfile(tmp_path / "whole.json", whole))
        assert (found.backend, found.environment) == ("jaccl", ("MLX_METAL_FAST_SYNCH=1",))
        assert found.ranks[1].rdma == (("rdma_en2", "rdma_en3"), None)

    @pytest.mark.parametrize(
        ("content", "said"),
        [
            ([], "has no list of hosts"),
            ({"backend": "ring"}, "has no list of hosts"),
            ([["10.0.0.1:5000"], ["10.0.0.2:5000"]], "the form that only MLX_HOSTFILE takes"),
            ([{"ips": ["10.0.0.1"]}], 'host 1 has no "ssh"'),
            ([{"ssh": "a"}, {"ssh": "-b"}], "host 2 has the name '-b'"),
            ([{"ssh": "a", "ips": ["mac-a.local"]}], "which is not an IP address"),
            ([{"ssh": "a", "ips": "10.0.0.1"}], "is not a list"),
            ([{"ssh": "a", "rdma": [2]}], "is not a list of devices"),
            ({"backend": "gloo", "hosts": [{"ssh": "a"}]}, "has the backend gloo; it must be"),
            ([{"ssh": "mac-b"}], "names only mac-b; name this machine first"),
            ([{"ssh": "a"}] * 257, "has 257 names; name at most 256"),
            (
                [{"ssh": "a", "ips": ["10.0.0.1"]}, {"ssh": "b", "ips": ["10.0.0.2", "10.0.1.2"]}],
                'has 2 "ips" for b and 1 for a',
            ),
            ({"envs": ["A B"], "hosts": [{"ssh": "a"}]}, 'write "NAME=VALUE"'),
        ],
    )
    def test_another_file_is_refused_with_its_place(
        self, content: object, said: str, tmp_path: Path
    ) -> None:
        path = hostfile(tmp_path / "hosts.json", content)
        with pytest.raises(RecipeError) as refused:
            hosts_of(path)
        assert said in str(refused.value)
        assert path in str(refused.value)

    def test_a_missing_file_and_one_that_is_no_json_are_refused(self, tmp_path: Path) -> None:
        with pytest.raises(RecipeError, match=r"can't be read \(No such file"):
            hosts_of(str(tmp_path / "none.json"))
        (tmp_path / "text.json").write_text("mac-a mac-b")
        with pytest.raises(RecipeError, match=r"is not JSON; mlx\.distributed_config writes"):
            hosts_of(str(tmp_path / "text.json"))
