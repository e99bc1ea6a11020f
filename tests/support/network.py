"""Two machines on this one: network namespaces whose link can be slow, and cut."""

from __future__ import annotations

import ctypes
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

OTHER: Final = "other-machine"
"""The name of the second machine for ssh."""

_LINK: Final = Path(__file__).with_name("delayed_link.py")

_SSH: Final = """#!/bin/sh
for last; do :; done
exec nsenter --net={place} sh -c "$last"
"""


@dataclass(frozen=True, kw_only=True)
class Machines:
    """Two machines by their addresses and by the files of their network namespaces."""

    addresses: tuple[str, str]
    places: tuple[str, str]
    link: subprocess.Popen[bytes]

    @property
    def hosts(self) -> str:
        """Both machines as a recipe names them."""
        first, second = self.addresses
        return f"localhost@{first}, {OTHER}@{second}"

    @property
    def on_second(self) -> tuple[str, ...]:
        """What starts a command on the second machine."""
        return ("nsenter", f"--net={self.places[1]}")

    @contextmanager
    def on_first(self) -> Iterator[None]:
        """Processes that this thread starts meanwhile are on the first machine."""
        with open("/proc/thread-self/ns/net") as before, open(self.places[0]) as first:
            _enter(first.fileno())
            try:
                yield
            finally:
                _enter(before.fileno())

    def cut(self) -> None:
        """Cut the link: no packet arrives any more, also none that is on its way."""
        assert self.link.stdin is not None
        self.link.stdin.write(b"cut\n")
        self.link.stdin.flush()


@contextmanager
def two_machines(delay: float = 0.0) -> Iterator[Machines | None]:
    """Two machines whose packets take `delay` seconds each way; None where they can't be made."""
    needed = map(shutil.which, ("ip", "nsenter"))
    if not (sys.platform == "linux" and os.geteuid() == 0 and all(needed)):
        yield None
        return
    addresses = "10.213.0.1", "10.213.0.2"
    link = subprocess.Popen(
        [sys.executable, str(_LINK), str(delay), *addresses],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    with link:
        assert link.stdout is not None
        said = link.stdout.readline()
        first, second = json.loads(said or "[null, null]")
        yield Machines(addresses=addresses, places=(first, second), link=link) if said else None


@contextmanager
def ssh_in_place_of(machines: Machines, folder: Path) -> Iterator[None]:
    """A stand-in for ``ssh``, found in `folder` until the end, that runs commands on the second."""
    with ssh_found_in(folder, _SSH.format(place=machines.places[1])):
        yield


@contextmanager
def ssh_found_in(folder: Path, script: str) -> Iterator[None]:
    """Until the end ``ssh`` is this script, for engines too."""
    ssh, path = folder / "ssh", os.environ["PATH"]
    ssh.write_text(script)
    ssh.chmod(0o700)
    os.environ["PATH"] = f"{folder}:{path}"
    try:
        yield
    finally:
        os.environ["PATH"] = path


def _enter(namespace: int) -> None:
    if ctypes.CDLL(None, use_errno=True).setns(namespace, 0):
        raise OSError(ctypes.get_errno(), "the network namespace can't be entered")
