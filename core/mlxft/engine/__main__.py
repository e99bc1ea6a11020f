"""The engine process: ``python -m mlxft.engine train RUN``, ``rank NUMBER``, ``kernels``,
``serve SOCKET``, ``describe`` or ``measure``."""

from __future__ import annotations

import argparse
import contextlib
import faulthandler
import os
import signal
import sys
from pathlib import Path

import msgspec

from mlxft.engine.failure import record
from mlxft.errors import MlxftError
from mlxft.runs.directory import RunDirectory
from mlxft.storage.paths import log_file


def main() -> int:
    """Run the engine named on the command line; the exit status is 1 after an error."""
    arguments = _parser().parse_args()
    # Files are the owner's alone, and a closed terminal doesn't end the engine.
    os.umask(0o077)
    # If a library aborts, the log has at least the stack.
    faulthandler.enable()
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    launcher = _Launcher(arguments.ready_fd)
    try:
        if arguments.engine == "describe":
            return _describe()
        if arguments.engine == "measure":
            return _measure()
        if arguments.engine == "serve":
            from mlxft.engine.service import serve

            serve(arguments.socket, launcher.ready)
            return 0
        if arguments.engine == "rank":
            # Whoever started it may end it as a group.
            signal.signal(signal.SIGHUP, signal.SIG_DFL)
            from mlxft.engine.rank import follow_rank_0

            return follow_rank_0(arguments.rank, is_remote=arguments.remote)
        if arguments.engine == "kernels":
            from mlxft.engine.kernels import make_kernels

            return make_kernels()
        from mlxft.engine.training import train

        directory = RunDirectory(arguments.run.resolve())
        return 0 if train(directory, launcher.ready, arguments.memory_limit, arguments.until) else 1
    except MlxftError as error:
        launcher.failed(str(error))
    except Exception as error:
        record(error, log_file())
        launcher.failed(
            f"The engine has failed unexpectedly ({type(error).__name__}); "
            f"{log_file()} has the traceback."
        )
    return 1


def _describe() -> int:
    """Print MLX's device and speed as one line of JSON, for the doctor."""
    from mlxft.compute import backend

    ready = backend.initialise()
    found = {**msgspec.to_builtins(ready), "advice": backend.slow_blas_advice(ready)}
    print(msgspec.json.encode(found).decode())
    return 0


def _measure() -> int:
    """Measure what each line of stdin requests, for the self-test."""
    from mlxft.compute import backend
    from mlxft.compute.measuring.measure import answer

    with os.fdopen(os.dup(1), "wb") as answers:
        # What libraries print must not come between the answers.
        os.dup2(2, 1)
        answer(sys.stdin.buffer, answers)
    backend.close()
    return 0


class _Launcher:
    """The process that started this one and reads from a pipe whether that worked."""

    def __init__(self, descriptor: int | None) -> None:
        self._descriptor = descriptor

    def ready(self) -> None:
        """Report that the socket is listening."""
        self._send("ready")

    def failed(self, message: str) -> None:
        """Report why this engine ends."""
        print(message, file=sys.stderr)
        self._send(message)

    def _send(self, message: str) -> None:
        if self._descriptor is not None:
            # Whoever started this engine may have been killed since.
            with contextlib.suppress(BrokenPipeError):
                os.write(self._descriptor, message.encode())
            os.close(self._descriptor)
            self._descriptor = None


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m mlxft.engine", description=__doc__)
    engines = parser.add_subparsers(dest="engine", required=True)
    train = engines.add_parser("train", help="train the run in this folder")
    train.add_argument("run", type=Path)
    train.add_argument("--memory-limit", type=int, help="bytes that MLX stays below if it can")
    train.add_argument("--until", type=int, help="step after which it is stopped, saved")
    rank = engines.add_parser("rank", help="follow the engine that writes orders to stdin")
    rank.add_argument("rank", type=int)
    rank.add_argument("--remote", action="store_true", help="end if it is silent for long")
    engines.add_parser("kernels", help="make the kernels of a run that writes to stdin")
    serve = engines.add_parser("serve", help="serve models on this socket until stdin ends")
    serve.add_argument("socket", type=Path)
    parser.set_defaults(ready_fd=None)
    engines.add_parser("describe", help="print MLX's device and speed, then end")
    engines.add_parser("measure", help="measure what lines of stdin request, for the self-test")
    for each in (train, serve):
        each.add_argument("--ready-fd", type=int, help="descriptor to write 'ready' to")
    return parser


if __name__ == "__main__":
    status = main()
    sys.stdout.flush()
    sys.stderr.flush()
    # Everything is saved; the clean-up of MLX and Python could only abort, or wait for an abandoned
    # download.
    os._exit(status)
