"""Ask all machines of a recipe's `hosts` at once, and judge them."""

from __future__ import annotations

import socket
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final, get_args

import msgspec

import mlxft
from mlxft.doctor.checkup import Report, Section
from mlxft.doctor.finding import Finding
from mlxft.doctor.hosts import judged
from mlxft.doctor.hosts.described import Request, described
from mlxft.doctor.hosts.judged import Expected, Need
from mlxft.doctor.hosts.ssh import ANSWER_SECONDS, Answer, ask
from mlxft.errors import ModelError
from mlxft.hosts import Host, Hosts, hosts_of
from mlxft.memory.estimator import estimate
from mlxft.memory.local_config import local_config
from mlxft.memory.shapes import ModelShapes
from mlxft.recipe import Recipe
from mlxft.telemetry.limits import MachineKind

Resolve = Callable[[str], Sequence[str]]

COMMAND: Final = (sys.executable, "-P", "-m", "mlxft.doctor.hosts.described")
"""What every machine runs; ranks are started with the same interpreter in the same folder."""

_AT_ONCE: Final = 16

_KINDS: Final[tuple[MachineKind, ...]] = get_args(MachineKind)


def check_machines(recipe: Recipe, folder: Path, seconds: float = ANSWER_SECONDS) -> Report:
    """A section for each machine, with `folder` as the project's on all of them; takes seconds.

    Raises `RecipeError` for hosts that can't be read.
    """
    hosts = hosts_of(recipe.hosts)
    request = Request(model=recipe.model, data=recipe.data)
    expected = Expected(
        here=described(request, folder),
        model=recipe.model,
        folder=str(folder),
        python=sys.executable,
        need=needed(recipe, folder),
    )
    first, *others = hosts.machines

    def checked(host: Host) -> Section:
        answer = _asked(host, folder, msgspec.json.encode(request), seconds)
        ranks = _ranks(hosts, host)
        return Section(
            _title(host, ranks),
            [
                *(judged.of_answer(host, ranks, answer, expected)),
                judged.address_finding(host, addresses(host), is_first=False),
            ],
        )

    with ThreadPoolExecutor(_AT_ONCE) as pool:
        sections = list(pool.map(checked, others))
    return Report(mlxft.__version__, [_first(hosts, first, expected), *sections])


def needed(recipe: Recipe, folder: Path) -> Need:
    """Bytes that a rank needs on each kind of device; none where the model isn't here."""
    try:
        shapes = ModelShapes.from_config(local_config(recipe.model, folder))
    except ModelError:
        return {}
    return {kind: estimate(shapes, recipe, kind, None).total for kind in _KINDS}


def _first(hosts: Hosts, host: Host, expected: Expected) -> Section:
    """This machine, where rank 0 is; it is reached without SSH."""
    ranks = _ranks(hosts, host)
    findings = [judged.memory_finding(ranks, expected.here, expected.need)]
    if not hosts.is_one_machine:
        own = addresses(host)
        findings.append(judged.address_finding(host, own, is_first=True))
        if not _is_this_machine(host.name, own):
            findings.append(
                Finding(
                    "machine",
                    "problem",
                    f"the first host is this machine; {host.name} isn't its name or address",
                    f"Name this machine first, as {socket.gethostname()}: it is rank 0 and keeps "
                    "the run.",
                )
            )
    return Section(_title(host, ranks), findings)


def _is_this_machine(name: str, own: Sequence[str]) -> bool:
    """Whether a host is this machine by its addresses, or by its name where that has none."""
    if own:
        return all(map(_is_own, own))
    first, _, _ = name.rpartition("@")[2].partition(".")
    return first.lower() == socket.gethostname().partition(".")[0].lower()


def _title(host: Host, ranks: int) -> str:
    name = "this machine" if host.is_here else host.name
    return name if ranks == 1 else f"{name}, {ranks} ranks"


def _ranks(hosts: Hosts, host: Host) -> int:
    return sum(each.name == host.name for each in hosts.ranks)


def _asked(host: Host, folder: Path, question: bytes, seconds: float) -> Answer:
    try:
        return ask(host.name, COMMAND, folder, question, seconds)
    except OSError as error:
        return Answer(255, "", f"ssh can't be started ({error.strerror})")


def addresses(host: Host) -> Sequence[str]:
    """The addresses by which other ranks reach a host: its own, or those of its name."""
    if host.addresses:
        return host.addresses
    try:
        found = socket.getaddrinfo(host.name.rpartition("@")[2], None, socket.AF_INET)
    except OSError:
        return ()
    return [str(found[0][4][0])] if found else ()


def _is_own(address: str) -> bool:
    """Whether an address is one of this machine's: it can be listened on."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family) as probe:
        try:
            probe.bind((address, 0))
        except OSError:
            return False
    return True
