"""What versions, device, disks, hub and terminal mean."""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from mlxft.doctor import hub, storage
from mlxft.doctor.checkup import checkup
from mlxft.doctor.device import (
    Device,
    DeviceProbe,
    device_findings,
    nvidia_finding,
    parse_device,
)
from mlxft.doctor.finding import NOT_KNOWN, Finding
from mlxft.doctor.privacy import without_names
from mlxft.doctor.terminal import Terminal, terminal_findings
from mlxft.doctor.versions import package_findings, python_finding
from mlxft.hub import access


class TestVersions:
    REQUIRED = ("mlx<0.33,>=0.32.4", "textual==8.2.8", "numpy>=1.26", "wandb>=0.19; extra == 'x'")

    def test_the_pins_are_met(self) -> None:
        installed = {"mlx": "0.32.4", "textual": "8.2.8", "numpy": "2.1.0"}
        assert package_findings(self.REQUIRED, installed) == [
            Finding("mlx", "ok", "0.32.4"),
            Finding("textual", "ok", "8.2.8"),
            Finding("other packages", "ok", "1 as required"),
        ]

    def test_a_newer_and_a_missing_one_are_problems(self) -> None:
        found = package_findings(self.REQUIRED, {"mlx": "0.33.0", "textual": "8.2.8"})
        assert [(each.subject, each.verdict) for each in found] == [
            ("mlx", "problem"),
            ("textual", "ok"),
            ("numpy", "problem"),
        ]
        assert found[0].seen == "0.33.0, required <0.33,>=0.32.4"

    @pytest.mark.parametrize(
        ("version", "verdict"), [((3, 10, 4), "problem"), ((3, 14, 1), "ok"), ((3, 15, 0), "note")]
    )
    def test_pythons(self, version: tuple[int, int, int], verdict: str) -> None:
        assert python_finding(version).verdict == verdict


def findings_of(printed: str) -> list[Finding]:
    found = parse_device(printed, "")
    assert isinstance(found, Device)
    return device_findings(found)


class TestDevice:
    def test_a_cpu_with_a_fast_blas(self) -> None:
        printed = (
            '{"type":"backend_ready","device":"AMD EPYC","kind":"cpu","blas":"OpenBLAS",'
            '"gflops":60.2,"memory_limit":null,"advice":null}\n'
        )
        assert findings_of(printed) == [
            Finding("device", "ok", "AMD EPYC (CPU)"),
            Finding("BLAS", "ok", "OpenBLAS, 60 GFLOP/s in float32 products"),
        ]

    def test_a_gpu_with_the_memory_that_mlx_may_use(self) -> None:
        printed = '{"device":"Apple M3 Ultra","kind":"metal","memory_limit":223338299392}'
        assert findings_of(printed) == [
            Finding("device", "ok", "Apple M3 Ultra (Metal), which may use 223.3 GB")
        ]

    def test_the_reference_blas_comes_with_its_remedy(self) -> None:
        printed = '{"device":"x","kind":"cpu","blas":"reference BLAS","gflops":1.4,"advice":"Do."}'
        assert findings_of(printed)[1] == Finding(
            "BLAS", "warning", "reference BLAS, 1 GFLOP/s in float32 products", "Do."
        )

    def test_an_mlx_that_cannot_be_loaded_is_a_problem_with_its_reason(self) -> None:
        found = parse_device("", "Traceback …\nModuleNotFoundError: No module named 'mlx'\n")
        assert isinstance(found, Finding)
        assert found.verdict == "problem"
        assert "No module named 'mlx'" in found.seen

    def test_a_child_that_hangs_is_a_warning(self) -> None:
        probe = DeviceProbe([sys.executable, "-S", "-c", "import signal; signal.pause()"])
        assert probe.findings(0.2)[0].verdict == "warning"

    def test_a_missing_program(self) -> None:
        assert DeviceProbe(["/no/such/program"]).findings()[0].verdict == "problem"

    @pytest.mark.parametrize(
        ("printed", "verdict"),
        [
            ("3, 512, 143771\n", "ok"),
            ("97, 512, 143771\n", "warning"),
            ("0, 90000, 143771", "warning"),
        ],
    )
    def test_a_gpu_that_others_use(self, printed: str, verdict: str) -> None:
        assert nvidia_finding(printed).verdict == verdict

    @pytest.mark.parametrize("printed", ["", "[N/A], [N/A], [N/A]", "NVIDIA-SMI has failed"])
    def test_no_answer_of_nvidia_smi(self, printed: str) -> None:
        assert nvidia_finding(printed).seen == NOT_KNOWN


class TestStorage:
    def test_a_full_disk_is_a_problem(self) -> None:
        assert storage.runs_disk_finding(10**8, writable=True).verdict == "problem"
        assert storage.runs_disk_finding(10**11, writable=False).verdict == "problem"

    def test_own_folders_that_cannot_be_written_come_with_what_they_are_needed_for(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        assert list(storage.own_folder_findings()) == []
        (tmp_path / "file").touch()
        for variable in ("MLXFT_STATE", "MLXFT_CACHE"):
            monkeypatch.setenv(variable, str(tmp_path / "file" / "own"))
        state, cache = storage.own_folder_findings()
        assert (state.subject, cache.subject) == ("state folder", "own cache")
        assert (state.verdict, cache.verdict) == ("problem", "warning")
        assert "MLXFT_STATE moves it" in (state.remedy or "")
        assert cache.seen == f"{tmp_path / 'file' / 'own'} can't be written."

    def test_own_folders_on_a_nearly_full_disk_of_their_own_are_named(self) -> None:
        found = storage.own_folder_findings(lambda _: 15_000_000)
        assert [(each.subject, each.verdict, each.seen) for each in found] == [
            ("state folder", "problem", "15.0 MB free on its disk"),
            ("runtime folder", "problem", "15.0 MB free on its disk"),
            ("own cache", "warning", "15.0 MB free on its disk"),
        ]
        assert list(storage.own_folder_findings(lambda _: None)) == []

    def test_a_cache_is_counted_once_although_snapshots_link_to_its_files(
        self, tmp_path: Path
    ) -> None:
        (tmp_path / "blobs").mkdir()
        (tmp_path / "blobs" / "one").write_bytes(bytes(range(256)) * 4096)
        (tmp_path / "snapshot").symlink_to(tmp_path / "blobs" / "one")
        (tmp_path / "loop").symlink_to(tmp_path)
        size, whole = storage.folder_size(tmp_path) or (0, False)
        assert whole
        assert 2**20 <= size < 2 * 2**20

    def test_counting_ends_in_time(self, tmp_path: Path) -> None:
        (tmp_path / "file").touch()
        assert storage.folder_size(tmp_path, seconds=-1) == (0, False)
        assert "at least" in storage.cache_finding("cache", (0, False), "").seen

    def test_a_low_hard_limit_keeps_mlx_lm_from_starting(self) -> None:
        assert storage.open_files_finding(1024, 2048).verdict == "warning"
        assert storage.open_files_finding(256, 1 << 62).verdict == "note"


class TestHub:
    def test_a_hub_that_never_answers_costs_a_limited_time(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(access, "WAIT_SECONDS", 0.2)
        with socket.create_server(("127.0.0.1", 0)) as server:
            address = f"http://127.0.0.1:{server.getsockname()[1]}"
            assert access.reach({"HF_ENDPOINT": address}) == "slow"

    def test_an_address_that_is_none(self) -> None:
        assert access.reach({"HF_ENDPOINT": "no address"}) == "refused"

    def test_offline_on_purpose(self, tmp_path: Path) -> None:
        environment = {"HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path)}
        assert [each.verdict for each in hub.hub_findings(environment, None)] == ["note", "ok"]

    def test_a_token_and_a_mirror_are_never_shown(self, tmp_path: Path) -> None:
        (tmp_path / "token").write_text("hf_planted_in_the_file")
        environment = {"HF_HOME": str(tmp_path), "HF_ENDPOINT": "https://hub.acme.example"}
        found = hub.hub_findings(environment, "reached")
        assert [each.seen for each in found] == ["a mirror (HF_ENDPOINT) answers", "there is one"]
        assert access.has_token({"HF_TOKEN": "hf_planted"})


def seen(terminal: Terminal) -> dict[str, Finding]:
    return {each.subject: each for each in terminal_findings(terminal)}


class TestTerminal:
    def test_a_local_one_that_can_everything(self) -> None:
        environment = {"TERM": "xterm-ghostty", "COLORTERM": "truecolor"}
        found = seen(Terminal(environment, (120, 40), "UTF-8", True))
        assert {each.verdict for each in found.values()} == {"ok"}
        assert found["connection"].seen == "local"

    def test_tmux_over_ssh(self) -> None:
        environment = {"TERM": "tmux-256color", "TMUX": "/tmp/x,1,0", "SSH_TTY": "/dev/pts/1"}
        found = seen(Terminal(environment, (79, 24)))
        assert found["connection"].seen == "SSH, tmux"
        assert "set-clipboard on" in (found["clipboard"].remedy or "")
        assert "COLORTERM" in (found["colors"].remedy or "")
        assert found["size"].verdict == "warning"
        assert found["synchronized output"].seen == NOT_KNOWN

    def test_another_encoding(self) -> None:
        assert seen(Terminal({}, (80, 24), "iso-8859-1"))["Unicode"].verdict == "warning"

    def test_none_at_all(self) -> None:
        assert list(seen(Terminal())) == ["connection", "terminal"]


def test_names_are_removed_wherever_they_are() -> None:
    text = (
        "/Users/jane/x /home/bob/y /data/jane/z by JANE on box.example.org (box) with "
        "hf_abcdefgh1234, C02XK1ZZJGH5, 10.0.0.7, GPU-12345678-1234-1234-1234-1234567890ab"
    )
    (clean,) = without_names(
        [Finding("subject", "ok", text, text)],
        home="/data/jane",
        user="jane",
        hosts=["box.example.org", "box"],
    )
    assert clean.seen == clean.remedy
    assert clean.seen == "~/x ~/y ~/z by USER on HOST (HOST) with TOKEN, SERIAL, ADDRESS, ID"


def test_common_names_stay() -> None:
    (clean,) = without_names(
        [Finding("s", "ok", "run as root, 0.32.4")], home="/", user="root", hosts=["localhost", ""]
    )
    assert clean.seen == "run as root, 0.32.4"


@pytest.mark.skipif(sys.platform == "darwin", reason="the tools of Linux")
class TestCheckup:
    def test_this_machine(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """All sections stand although no tool answers, and the planted names aren't in them."""
        monkeypatch.setenv("HF_HUB_OFFLINE", "1")
        monkeypatch.setenv("HF_TOKEN", "hf_planted_token")
        monkeypatch.setenv("LOGNAME", "planted.user")
        monkeypatch.setattr(socket, "gethostname", lambda: "planted-host")
        project = tmp_path / "planted.user"
        project.mkdir()

        def silent(commands: Sequence[tuple[str, ...]]) -> list[str]:
            return [""] * len(commands)

        report = checkup(project, Terminal(dict(os.environ)), silent)
        titles = [each.title for each in report.sections]
        assert titles == ["Versions", "Machine", "Storage", "Hugging Face", "Terminal"]
        assert "planted" not in repr(report)
        assert not report.has_problem
        device = next(each for each in report.findings if each.subject == "device")
        assert device.verdict == "ok"
