"""A Mac's findings from what its tools print, on any machine."""

from __future__ import annotations

import json
from collections.abc import Mapping

import pytest

from mlxft.doctor import mac
from mlxft.doctor.finding import NOT_KNOWN, Finding
from mlxft.doctor.privacy import without_names
from mlxft.telemetry.apple import SYSCTL, Command
from support import macs


def findings(
    answers: Mapping[Command, str], *, python: str = "arm64", caffeinate: bool = True
) -> dict[str, Finding]:
    found = [*mac.system_findings(answers, python), *mac.machine_findings(answers, caffeinate)]
    return {each.subject: each for each in found}


def verdicts(found: Mapping[str, Finding], *subjects: str) -> list[str]:
    return [found[each].verdict for each in subjects]


class TestASmallMac:
    FOUND = findings(macs.M1_8GB)

    def test_what_slows_a_run_is_a_warning(self) -> None:
        subjects = ("swap", "memory pressure", "other programs", "GPU use", "power")
        assert verdicts(self.FOUND, *subjects, "low-power mode") == ["warning"] * 6
        assert self.FOUND["swap"].seen == "2.24 GB used"

    def test_the_largest_program_is_named_without_its_helpers(self) -> None:
        remedy = self.FOUND["other programs"].remedy or ""
        assert "Google Chrome (2.83 GB)" in remedy
        assert "crashpad" not in remedy

    def test_a_display_that_is_on_may_end_a_step(self) -> None:
        display = self.FOUND["display"]
        assert display.seen == "on; sleeps after 2 min"
        assert "pmset displaysleepnow" in (display.remedy or "")

    def test_there_is_too_little_memory_to_raise_the_wired_limit(self) -> None:
        assert self.FOUND["wired limit"].remedy is None
        limit = self.FOUND["memory limit"]
        assert (limit.verdict, limit.seen) == ("note", "5.73 GB for a run, of 8.59 GB")

    def test_nothing_is_a_problem(self) -> None:
        assert not [each for each in self.FOUND.values() if each.verdict == "problem"]


class TestALargeMac:
    FOUND = findings(macs.M3_MAX_128GB)

    def test_all_is_well(self) -> None:
        assert {each.verdict for each in self.FOUND.values()} == {"ok"}
        assert self.FOUND["processor"].seen == "Apple M3 Max, Python is native"
        assert self.FOUND["low-power mode"].seen == "off"
        assert self.FOUND["display"].seen == "asleep"

    def test_the_command_that_raises_the_limit_leaves_an_eighth_to_macos(self) -> None:
        assert self.FOUND["wired limit"].remedy == (
            "If a run just doesn't fit, raise it until the next restart: "
            "sudo sysctl iogpu.wired_limit_mb=114688"
        )

    def test_without_caffeinate_its_sleep_ends_a_run(self) -> None:
        sleep = findings(macs.M3_MAX_128GB, caffeinate=False)["sleep"]
        assert (sleep.verdict, sleep.remedy) == (
            "warning",
            "Before a long run: sudo pmset -c sleep 0",
        )


class TestAnUltra:
    FOUND = findings(macs.M3_ULTRA_512GB)

    def test_a_limit_that_leaves_macos_too_little_is_a_warning(self) -> None:
        limit = self.FOUND["wired limit"]
        assert limit.verdict == "warning"
        assert "iogpu.wired_limit_mb=0" in (limit.remedy or "")

    def test_no_display_and_no_sleep(self) -> None:
        assert verdicts(self.FOUND, "display", "sleep", "power") == ["ok"] * 3
        assert self.FOUND["display"].seen == "none"


class TestTheWrongPython:
    def test_one_for_intel_runs_under_rosetta(self) -> None:
        assert "Rosetta" in findings(macs.M3_MAX_128GB, python="x86_64")["processor"].seen

    def test_an_intel_mac_has_no_mlx(self) -> None:
        answers = {mac.CHIP: "machdep.cpu.brand_string: Intel(R) Core(TM) i7-9750H\n"}
        processor = findings(answers, python="x86_64")["processor"]
        assert (processor.verdict, processor.remedy) == ("problem", "mlx needs Apple silicon.")

    def test_an_old_macos(self) -> None:
        assert findings({mac.VERSION: "13.6.7\n"})["macOS"].verdict == "problem"


class TestToolsThatFail:
    """Missing and hanging tools answer nothing."""

    @pytest.mark.parametrize(
        "text",
        [
            "",
            "command not found\n",
            "\x00\ufffd{[\n" * 99,
            "[1, 2]",
            "{}",
            "null",
            "Batterie: leer",
        ],
    )
    def test_any_answer_is_not_known_and_no_problem(self, text: str) -> None:
        found = findings(dict.fromkeys(mac.COMMANDS, text))
        del found["processor"]  # Python itself says that it is native.
        read = {each.subject: each.seen for each in found.values() if each.seen != NOT_KNOWN}
        assert set(read) <= {"display"}  # No display is an answer, too.

    @pytest.mark.parametrize("command", mac.COMMANDS, ids=lambda command: command[0])
    def test_one_missing_tool_leaves_the_other_findings(self, command: Command) -> None:
        found = findings({**macs.M3_MAX_128GB, command: ""})
        assert {each.verdict for each in found.values()} <= {"ok", "note"}
        assert sum(each.seen == NOT_KNOWN for each in found.values()) <= 5

    def test_another_locale(self) -> None:
        text = macs.M1_8GB[SYSCTL].replace(".25M", ",25M")
        assert findings({**macs.M1_8GB, SYSCTL: text})["swap"].seen == "2.24 GB used"


def test_a_report_has_no_personal_details() -> None:
    """Even in the names of applications, and in what the raw outputs hold beside figures."""
    found = list(findings(macs.M1_8GB).values())
    assert macs.USER in json.dumps([each.remedy for each in found])
    clean = without_names(
        found, home=f"/Users/{macs.USER}", user=macs.USER, hosts=[macs.HOST, f"{macs.HOST}.local"]
    )
    text = " ".join(f"{each.seen} {each.remedy}" for each in clean)
    for private in (macs.USER, macs.HOST, macs.SERIAL, "5308515", "secret-project", "/Users"):
        assert private not in text
