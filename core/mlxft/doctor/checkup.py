"""Read the machine and judge it. Every program and the network have a time limit."""

from __future__ import annotations

import os
import platform
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

import msgspec

import mlxft
from mlxft.doctor import hub, mac, memory, power, storage, terminal, versions
from mlxft.doctor.device import NVIDIA_SMI, DeviceProbe, nvidia_finding
from mlxft.doctor.finding import Finding
from mlxft.doctor.privacy import own_names, without_names
from mlxft.doctor.terminal import Terminal
from mlxft.memory.local_config import hub_cache
from mlxft.storage.paths import cache_dir
from mlxft.storage.space import free_space
from mlxft.telemetry.apple import Outputs, outputs
from mlxft.telemetry.host import Host
from mlxft.telemetry.limits import machine_memory


class Section(msgspec.Struct, frozen=True):
    """Findings that belong together."""

    title: str
    findings: Sequence[Finding]


class Report(msgspec.Struct, frozen=True):
    """All findings, without personal details."""

    version: str
    sections: Sequence[Section]

    @property
    def findings(self) -> list[Finding]:
        return [each for section in self.sections for each in section.findings]

    @property
    def has_problem(self) -> bool:
        return any(each.verdict == "problem" for each in self.findings)


def checkup(
    project: Path, seen: Terminal, run: Outputs = outputs, probe: DeviceProbe | None = None
) -> Report:
    """This machine's report for a project's folder; takes seconds, most of them MLX's start.

    `probe` is that of the device, if it is started already.
    """
    probe = probe or DeviceProbe()
    system, machine = _on_mac(run) if sys.platform == "darwin" else _elsewhere(project, run)
    requirements = versions.declared_requirements()
    installed = versions.installed_versions(requirements)
    kept = _storage(project)
    hub_access = hub.hub_findings(os.environ, hub.current_access())
    sections = (
        (
            "Versions",
            [
                versions.python_finding(versions.running_python()),
                *versions.package_findings(requirements, installed),
                *system,
            ],
        ),
        ("Machine", [*probe.findings(), *machine]),
        ("Storage", kept),
        ("Hugging Face", hub_access),
        ("Terminal", terminal.terminal_findings(seen)),
    )
    home, user, hosts = own_names()
    return Report(
        mlxft.__version__,
        [
            Section(title, without_names(found, home=home, user=user, hosts=hosts))
            for title, found in sections
        ],
    )


def _on_mac(run: Outputs) -> tuple[list[Finding], list[Finding]]:
    answers = dict(zip(mac.COMMANDS, run(mac.COMMANDS), strict=True))
    has_caffeinate = shutil.which("caffeinate") is not None
    return (
        mac.system_findings(answers, platform.machine()),
        mac.machine_findings(answers, has_caffeinate),
    )


def _elsewhere(project: Path, run: Outputs) -> tuple[list[Finding], list[Finding]]:
    limits, figures = machine_memory(), Host(str(project)).read()
    machine = [
        memory.limit_finding(limits),
        memory.others_finding(limits, {}),
        memory.swap_finding(figures.get("swap_used")),
    ]
    if figures.get("on_battery") is not None:
        machine.append(power.source_finding(figures.get("on_battery")))
    if limits.kind == "cuda" or shutil.which(NVIDIA_SMI[0]):
        machine.append(nvidia_finding(run([NVIDIA_SMI])[0]))
    return [versions.linux_finding()], machine


def _storage(project: Path) -> list[Finding]:
    models, own = hub_cache(), cache_dir()
    writable = os.access(project, os.W_OK | os.X_OK)
    return [
        storage.runs_disk_finding(free_space(project), writable=writable),
        storage.cache_disk_finding(free_space(models)),
        storage.cache_finding(
            "hub's cache",
            storage.folder_size(models),
            "hf cache ls lists it, hf cache rm empties it.",
        ),
        storage.cache_finding(
            "own cache", storage.folder_size(own), "MLXFT_CACHE moves it to another disk."
        ),
        *storage.own_folder_findings(),
        storage.open_files_finding(*storage.open_files()),
    ]
