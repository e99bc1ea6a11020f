"""The output of macOS tools, parsed on any machine."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mlxft.telemetry.apple_text import (
    Accelerator,
    Kernel,
    Macmon,
    VirtualMemory,
    parse_ioreg,
    parse_macmon,
    parse_sysctl,
    parse_thermal_level,
    parse_vm_stat,
)

SAMPLES = Path(__file__).parent / "samples"
CAPTURES = Path(os.environ.get("MLXFT_MAC_CAPTURES", "no folder"))
"""A folder of real tools' output, which is not part of the project."""
PAGE = 16384


def sample(name: str) -> str:
    return (SAMPLES / name).read_text()


class TestIoreg:
    """GPU use from IOAccelerator's statistics."""

    def test_the_busiest_accelerator_is_read(self) -> None:
        assert parse_ioreg(sample("ioreg.txt")) == Accelerator(
            name="Apple M3 Pro", share=0.92, allocated=9_000_000_000
        )

    def test_device_utilization_is_used_not_the_renderers(self) -> None:
        """The renderer is idle while a language model runs."""
        assert parse_ioreg(sample("ioreg.txt")).share == 0.92

    def test_no_accelerator(self) -> None:
        assert parse_ioreg("") == Accelerator()


class TestVmStat:
    """Used memory as Activity Monitor counts it."""

    def test_used_excludes_files_and_purgeable_pages(self) -> None:
        memory = parse_vm_stat(sample("vm_stat.txt"))
        assert memory.used == (300_000 - 10_000 + 100_000 + 40_000) * PAGE
        assert memory.wired == 100_000 * PAGE
        assert memory.compressed == 40_000 * PAGE

    def test_a_missing_count_is_not_zero(self) -> None:
        lines = [each for each in sample("vm_stat.txt").splitlines() if "Anonymous" not in each]
        memory = parse_vm_stat("\n".join(lines))
        assert memory.used is None
        assert memory.wired is not None

    def test_other_text_gives_no_figures(self) -> None:
        assert parse_vm_stat("vm_stat: command not found") == VirtualMemory()


class TestSysctl:
    """Swap, pressure and the wired limit."""

    def test_all_keys(self) -> None:
        assert parse_sysctl(sample("sysctl.txt")) == Kernel(
            memory_size=19_327_352_832,
            swap_used=round(2048.5 * 1024**2),
            pressure="warning",
            wired_limit=None,
        )

    def test_a_custom_wired_limit(self) -> None:
        limit = parse_sysctl("iogpu.wired_limit_mb: 16384\n").wired_limit
        assert limit == 16384 * 1024**2

    def test_gigabytes_of_swap(self) -> None:
        assert parse_sysctl("vm.swapusage: total = 4G  used = 1.50G").swap_used == 1.5 * 1024**3

    def test_the_decimal_comma_of_other_locales(self) -> None:
        text = "vm.swapusage: total = 4096,00M  used = 1536,50M  free = 2559,50M  (encrypted)"
        assert parse_sysctl(text).swap_used == 1536.5 * 1024**2

    def test_missing_keys(self) -> None:
        assert parse_sysctl("") == Kernel()


class TestThermalLevel:
    def test_the_level(self) -> None:
        assert parse_thermal_level(sample("notifyutil.txt")) == 2

    def test_an_error_message_gives_no_level(self) -> None:
        failed = "com.apple.system.thermalpressurelevel: Failed with code 9"
        assert parse_thermal_level(failed) is None


class TestMacmon:
    """Both generations of keys."""

    def test_before_0_8(self) -> None:
        assert parse_macmon(sample("macmon_0.6.json")) == Macmon(0.5, 12.5, 1100.0, 60.25)

    def test_since_0_8_the_active_share_is_used(self) -> None:
        assert parse_macmon(sample("macmon_0.8.json")) == Macmon(0.97, 18.75, 1380.0, 66.0)

    @pytest.mark.parametrize("line", ["", "{", "[]", "null", '{"gpu_usage": 3, "temp": null}'])
    def test_a_broken_line_gives_no_figures(self, line: str) -> None:
        assert parse_macmon(line) == Macmon()

    def test_impossible_zeros_give_no_figures(self) -> None:
        """Counters of macOS 27 are stuck at zero; zero utilization is an idle GPU."""
        line = '{"gpu_usage": [338, 0.0], "gpu_power": 0.0, "temp": {"gpu_temp_avg": 0.0}}'
        assert parse_macmon(line) == Macmon(0.0, None, 338.0, None)


PARSERS: dict[str, Callable[[str], Any]] = {
    "ioreg": parse_ioreg,
    "vm_stat": parse_vm_stat,
    "sysctl": parse_sysctl,
    "thermal": parse_thermal_level,
    "macmon": parse_macmon,
}


@pytest.mark.skipif(not CAPTURES.is_dir(), reason="MLXFT_MAC_CAPTURES is not set")
class TestCaptures:
    """Output of real Macs, M1 to M5 and macOS 14 to 27."""

    @staticmethod
    def texts(kind: str) -> dict[str, str]:
        return {path.name: path.read_text() for path in sorted((CAPTURES / kind).iterdir())}

    @pytest.mark.parametrize("parser", PARSERS.values(), ids=PARSERS)
    def test_no_parser_raises_for_any_capture(self, parser: Callable[[str], Any]) -> None:
        for path in sorted(CAPTURES.rglob("*")):
            if path.is_file():
                text = path.read_text(errors="replace")
                parser(text)
                parser(text[: len(text) // 2])

    def test_every_accelerator_has_utilization_and_memory(self) -> None:
        for name, text in self.texts("ioreg").items():
            found = parse_ioreg(text)
            if name == "no_match_empty.txt":
                assert found == Accelerator()
            else:
                assert found.share is not None, name
                assert 0 <= found.share <= 1
                assert found.allocated is not None, name
                assert found.allocated > 4e9

    def test_device_utilization(self) -> None:
        shares = {name: parse_ioreg(text).share for name, text in self.texts("ioreg").items()}
        assert shares["m2pro.txt"] == 0.42
        assert shares["m5pro__macos27.2__layout_with_legend_head.txt"] == 0.87

    def test_used_memory_with_all_counts(self) -> None:
        used = {name: parse_vm_stat(text).used for name, text in self.texts("vm_stat").items()}
        full = used["mac_mini_32gb__full_48col.txt"]
        assert full == (1_283_025 - 26_929 + 129_937 + 99_309) * PAGE
        assert used["m3ultra_512gb__macos26__partial.txt"] is None

    def test_swap_of_every_swap_capture(self) -> None:
        for name, text in self.texts("sysctl").items():
            if name.startswith("swapusage"):
                assert parse_sysctl(text).swap_used is not None, name

    def test_thermal_levels(self) -> None:
        levels = [parse_thermal_level(text) for text in self.texts("thermal").values()]
        assert levels == [None, 0, 1, 2, 3, 4]

    def test_every_line_of_macmon(self) -> None:
        for name, text in self.texts("macmon").items():
            for line in text.splitlines():
                found = parse_macmon(line)
                assert found.gpu_power is not None, name
                assert found.gpu_frequency_mhz is not None, name
                assert found.gpu_temperature is not None, name
                assert found.gpu_share is not None, name
                assert 0 <= found.gpu_share <= 1
