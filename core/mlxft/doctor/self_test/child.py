"""Measurements with MLX in child processes, which end with the self-test."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Any, TypeVar

import msgspec

from mlxft.doctor.self_test.watch import Watch
from mlxft.engine.blas import blas_environment
from mlxft.self_test.checks import REPORT, Check
from mlxft.storage.paths import cache_dir
from mlxft.text.printable import printable_line

T = TypeVar("T")

LIMIT = 90.0
"""Seconds that one measurement may take."""

_POLL = 0.1


def measured(watch: Watch, name: str, request: Any, kind: type[T], subject: str) -> T | Check:
    """What a measurement finds in a process of its own, or why it found nothing."""
    watch.measuring(subject)
    if not watch.remaining:
        return Check(subject, "skipped", "no time was left")
    command = [sys.executable, "-P", "-m", "mlxft.engine", "measure", name]
    process = subprocess.Popen(
        [*command, msgspec.json.encode(request).decode()],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, **blas_environment(cache_dir())},
        start_new_session=True,
    )
    try:
        printed, errors = _finished(process, watch)
    finally:
        process.kill()
        process.wait()
    if printed is None:
        return Check(subject, "skipped", "took too long")
    last_line = printed.decode(errors="replace").strip().rpartition("\n")[2]
    try:
        return msgspec.json.decode(last_line, type=kind)
    except msgspec.DecodeError:
        reason = errors.decode(errors="replace").strip().rpartition("\n")[2]
        seen = printable_line(reason)[:200] or "the process printed nothing"
        return Check(
            subject, "differs", seen, f"It can't be computed here; update mlx, or {REPORT}."
        )


def _finished(process: subprocess.Popen[bytes], watch: Watch) -> tuple[bytes | None, bytes]:
    """What the process printed; None if it takes too long."""
    end = watch.elapsed + min(LIMIT, watch.remaining)
    while True:
        watch.check()
        try:
            return process.communicate(timeout=_POLL)
        except subprocess.TimeoutExpired:
            if watch.elapsed > end:
                return None, b""
