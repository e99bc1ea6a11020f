"""A second machine on this one: a network namespace, reached by a stand-in for ssh."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

_SSH = """#!/bin/sh
for last; do :; done
exec ip netns exec {name} sh -c "$last"
"""


@dataclass(frozen=True)
class OtherMachine:
    """A namespace that a link of its own connects with this machine; needs root, on Linux."""

    name: str
    link: str
    here: str
    there: str

    @property
    def hosts(self) -> str:
        """Both machines as a recipe names them."""
        return f"localhost@{self.here}, {self.name}@{self.there}"

    def cut(self) -> None:
        """Cut the link."""
        _run("ip", "link", "set", self.link, "down")


@contextmanager
def other_machine(folder: Path, delay: str = "") -> Iterator[OtherMachine | None]:
    """A second machine, with this latency each way where that can be; None where it can't be made.

    Until the end ``ssh`` is found in `folder`, by engines too.
    """
    number = os.getpid() % 200 + 20
    found = OtherMachine(
        name=f"mlxft{os.getpid()}",
        link=f"mlxa{os.getpid()}",
        here=f"10.213.{number}.1",
        there=f"10.213.{number}.2",
    )
    if not _made(found, delay):
        yield None
        return
    ssh, path = folder / "ssh", os.environ["PATH"]
    ssh.write_text(_SSH.format(name=found.name))
    ssh.chmod(ssh.stat().st_mode | stat.S_IXUSR)
    os.environ["PATH"] = f"{folder}:{path}"
    try:
        yield found
    finally:
        os.environ["PATH"] = path
        _removed(found)


def _made(machine: OtherMachine, delay: str) -> bool:
    may = sys.platform == "linux" and os.geteuid() == 0 and shutil.which("ip")
    if not may or not _run("ip", "netns", "add", machine.name):
        return False
    inside = ("ip", "-n", machine.name)
    peer = f"mlxb{os.getpid()}"
    steps = [
        ("ip", "link", "add", machine.link, "type", "veth", "peer", peer, "netns", machine.name),
        ("ip", "address", "add", f"{machine.here}/24", "dev", machine.link),
        ("ip", "link", "set", machine.link, "up"),
        (*inside, "address", "add", f"{machine.there}/24", "dev", peer),
        (*inside, "link", "set", peer, "up"),
        (*inside, "link", "set", "lo", "up"),
    ]
    if all(_run(*step) for step in steps):
        # Not every kernel can delay packets; the link is a fast one then.
        netem = ("root", "netem", "delay", delay)
        if delay and _run("tc", "qdisc", "add", "dev", machine.link, *netem):
            _run("tc", "-n", machine.name, "qdisc", "add", "dev", peer, *netem)
        return True
    _removed(machine)
    return False


def _removed(machine: OtherMachine) -> None:
    _run("ip", "netns", "delete", machine.name)
    _run("ip", "link", "delete", machine.link)


def _run(*command: str) -> bool:
    try:
        return subprocess.run(command, capture_output=True, check=False).returncode == 0
    except OSError:
        return False
