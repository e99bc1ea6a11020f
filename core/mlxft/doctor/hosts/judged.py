"""What machines have said of themselves as findings, compared with this one; pure."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from mlxft.doctor.finding import Finding
from mlxft.doctor.hosts.described import LONGEST, MARK, Description
from mlxft.doctor.hosts.ssh import NO_FOLDER, Answer
from mlxft.hosts import Host
from mlxft.telemetry.limits import MachineKind
from mlxft.text import figures
from mlxft.text.printable import printable_line

Need = Mapping[MachineKind, int | None]
"""Bytes that a rank needs on each kind of device, as far as they are known."""

TIGHT: Final = 0.85

_SSH_ERRORS: Final = (
    (
        r"permission denied",
        "Put this machine's key there: ssh-copy-id {name}",
    ),
    (
        r"host key verification failed|identification has changed",
        "Run ssh {name} once in a terminal, and accept its key if it is the right machine.",
    ),
    (
        r"could not resolve",
        "Check the name; a Mac is found as its-name.local.",
    ),
    (
        r"connection refused",
        "Turn on Remote Login there (System Settings, General, Sharing), or start its SSH server.",
    ),
    (
        r"timed out|no route|unreachable|network is down",
        "Check that it is awake and on this network.",
    ),
)
"""What ssh says where it can't connect, and what to do."""

_OTHERWISE: Final = "Run ssh -o BatchMode=yes {name} true until it succeeds."


@dataclass(frozen=True, kw_only=True)
class Expected:
    """What every machine should have: this one's description, the recipe's own words, and what a
    rank needs."""

    here: Description
    model: str
    folder: str
    python: str
    need: Need


def of_answer(host: Host, ranks: int, answer: Answer, expected: Expected) -> list[Finding]:
    """The findings of a machine that was asked over SSH."""
    found = _description(answer.output)
    if found is None:
        return [_no_description(host.name, answer, expected)]
    return [
        Finding("ssh", "ok", "answers without a password"),
        *of_description(host.name, ranks, found, expected),
    ]


def of_description(
    name: str, ranks: int, found: Description, expected: Expected
) -> Iterator[Finding]:
    """The findings of a machine by what it has."""
    yield _versions(found, expected.here)
    yield _model(name, found, expected)
    yield _data(found, expected.here)
    yield memory_finding(ranks, found, expected.need)


def _description(output: str) -> Description | None:
    """What a machine has printed behind the mark, the last time."""
    import msgspec

    marked = [line for line in output.splitlines() if line.startswith(MARK)]
    try:
        return msgspec.json.decode(marked[-1].removeprefix(MARK), type=Description)
    except (IndexError, msgspec.DecodeError):
        return None


def _no_description(name: str, answer: Answer, expected: Expected) -> Finding:
    said = shown(answer.errors.strip().splitlines()[-1:])
    if answer.status is None:
        return Finding("ssh", "problem", "no answer in time", _remedy("timed out", name))
    if answer.status == NO_FOLDER:
        return Finding(
            "folder",
            "problem",
            f"no folder {printable_line(expected.folder)}",
            "Make this folder there, or copy the project to the same path.",
        )
    if answer.status in (126, 127) or "No module named" in answer.errors:
        return Finding(
            "mlxft-tui",
            "problem",
            f"not found with {printable_line(expected.python)}" + (f": {said}" if said else ""),
            "Install this version of mlxft-tui there, in an environment at the same path.",
        )
    if answer.status == 255:
        return Finding("ssh", "problem", said or "no connection", _remedy(answer.errors, name))
    return Finding(
        "mlxft-tui",
        "problem",
        said or f"no description, with status {answer.status}",
        "Install this version of mlxft-tui there; mlxft-tui doctor checks it.",
    )


def _remedy(errors: str, name: str) -> str:
    for pattern, remedy in _SSH_ERRORS:
        if re.search(pattern, errors, re.IGNORECASE):
            return remedy.format(name=name)
    return _OTHERWISE.format(name=name)


def shown(lines: Sequence[str]) -> str:
    """Text of another machine, safe to print and not long."""
    text = printable_line(" ".join(lines).strip())
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}…"


def _versions(found: Description, here: Description) -> Finding:
    other = [
        f"{shown([name])} {shown([found.versions.get(name, '')]) or 'missing'}, here {own}"
        for name, own in here.versions.items()
        if found.versions.get(name) != own
    ]
    if other:
        wanted = " ".join(f"{name}=={own}" for name, own in here.versions.items() if own)
        return Finding(
            "versions", "problem", "; ".join(other), f"Install the same there: {wanted}."
        )
    return Finding(
        "versions", "ok", ", ".join(f"{name} {own}" for name, own in here.versions.items())
    )


def _model(name: str, found: Description, expected: Expected) -> Finding:
    model = printable_line(expected.model)
    if not expected.here.model:
        return Finding(
            "model", "warning", f"{model} has no weights here to compare", "Download it first."
        )
    copy = "Copy its folder from this machine, or download the same revision there."
    if not found.model:
        return Finding("model", "problem", f"no weights of {model}", copy)
    if found.model != expected.here.model:
        seen = f"other weights of {model}: {shown([found.model])}, here {expected.here.model}"
        return Finding("model", "problem", seen, copy)
    return Finding("model", "ok", f"the same weights ({expected.here.model})")


def _data(found: Description, here: Description) -> Finding:
    """A note at most: rank 0 sends the others their rows."""
    if found.data and found.data == here.data:
        return Finding("data", "ok", f"the same records ({here.data})")
    seen = "other records" if found.data else "none"
    return Finding(
        "data", "note", f"{seen}; this machine sends the rows, so only mlx_lm's command needs them"
    )


def memory_finding(ranks: int, found: Description, need: Need) -> Finding:
    """Whether the ranks of a machine fit into its memory; on NVIDIA each has a GPU."""
    each, limit = need.get(found.kind), found.limit
    if each is None or limit is None:
        return Finding("memory", "note", "not known whether it suffices")
    total = each if found.kind == "cuda" else each * ranks
    seen = f"{figures.gigabytes(total)} of {figures.gigabytes(limit)} GB needed"
    if ranks > 1:
        seen += f" by {ranks} ranks" if found.kind != "cuda" else " on each GPU"
    if total > limit:
        return Finding("memory", "problem", seen, "Lower batch_size or turn on grad_checkpoint.")
    free = found.available
    if total > TIGHT * limit or (free is not None and total > free):
        return Finding("memory", "warning", seen, "End other programs there.")
    return Finding("memory", "ok", seen)


def address_finding(host: Host, resolved: Sequence[str], *, is_first: bool) -> Finding:
    """Whether other machines can reach a rank's addresses."""
    if not resolved:
        return Finding(
            "address", "problem", "not known", f"Write {host.name}@ADDRESS in hosts, as @10.0.0.2."
        )
    inner = [each for each in resolved if ipaddress.ip_address(each).is_loopback]
    if inner:
        whose = "this machine" if is_first else host.name
        named = "this-mac" if host.is_here else host.name
        return Finding(
            "address",
            "problem",
            f"{inner[0]}, which other machines can't reach",
            f"Write {whose}'s address on the link behind its name, as {named}@10.0.0.2.",
        )
    return Finding("address", "ok", ", ".join(resolved))
