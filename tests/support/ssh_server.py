"""A real SSH server with keys and settings of its own; nothing of the user's is read or written."""

from __future__ import annotations

import getpass
import os
import shlex
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import psutil

from mlxft.engine.ports import free_ports
from support.network import OTHER, ssh_found_in
from support.project import eventually

_SERVER: Final = """\
Port {port}
ListenAddress {address}
HostKey {folder}/host
PidFile none
AuthorizedKeysFile {folder}/user.pub
AuthenticationMethods publickey
PermitRootLogin prohibit-password
UsePAM no
StrictModes no
SetEnv {variables}
"""

_CLIENT: Final = """\
Host {name}
  HostName {address}
  Port {port}
  User {user}
  IdentityFile {folder}/user
  IdentitiesOnly yes
  IdentityAgent none
  UserKnownHostsFile {folder}/known
  GlobalKnownHostsFile none
"""


@contextmanager
def ssh_server(
    folder: Path, address: str = "127.0.0.1", on: Sequence[str] = ()
) -> Iterator[psutil.Process | None]:
    """A server that ``ssh`` reaches as `OTHER`, also for engines; None where there is none.

    `on` starts commands on the machine of this address.
    """
    server, client = (
        shutil.which("sshd", path=f"{os.environ['PATH']}:/usr/sbin"),
        shutil.which("ssh"),
    )
    if server is None or client is None:
        yield None
        return
    for name in ("host", "user"):
        key = ("-q", "-t", "ed25519", "-N", "", "-f", str(folder / name))
        subprocess.run(["ssh-keygen", *key], check=True)
    (port,) = free_ports(1)
    kept = {name: value for name in ("PYTHONPATH",) if (value := os.environ.get(name))}
    variables = " ".join(shlex.quote(f"{name}={value}") for name, value in kept.items())
    where = {"folder": folder, "address": address, "port": port}
    (folder / "server").write_text(_SERVER.format(**where, variables=variables or "LC_ALL=C"))
    (folder / "client").write_text(_CLIENT.format(**where, name=OTHER, user=getpass.getuser()))
    public = (folder / "host.pub").read_text()
    (folder / "known").write_text(f"[{address}]:{port} {public}")
    command = [server, "-D", "-e", "-f", str(folder / "server")]
    log = folder / "log"
    with log.open("wb") as file:
        process = subprocess.Popen([*on, *_with_own_folder(command)], stderr=file)
    script = f'#!/bin/sh\nexec {client} -F {shlex.quote(str(folder / "client"))} "$@"\n'
    bin_folder = folder / "bin"
    bin_folder.mkdir()
    with process:
        try:
            eventually(lambda: process.poll() is not None or b"listening" in log.read_bytes())
            with ssh_found_in(bin_folder, script):
                yield psutil.Process(process.pid) if process.poll() is None else None
        finally:
            # Sessions of a link that was cut would stay.
            for session in _sessions(process.pid):
                session.terminate()
            process.terminate()


def _sessions(server: int) -> list[psutil.Process]:
    try:
        return psutil.Process(server).children()
    except psutil.NoSuchProcess:
        return []


def _with_own_folder(command: Sequence[str]) -> list[str]:
    """As root the server wants an empty folder in /run, which only it sees here."""
    if os.geteuid():
        return list(command)
    made = f"mount -t tmpfs none /run && mkdir /run/sshd && exec {shlex.join(command)}"
    return ["unshare", "--mount", "sh", "-c", made]
