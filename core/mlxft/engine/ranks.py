"""The other ranks of a run: started, commanded and watched by the engine, which is rank 0.

They are processes of `rank.py`, on this machine or through SSH, and end with their standard input:
whoever is killed, and however, no process stays. Ranks add up arrays by MLX's own engine, in the
environment that mlx.launch gives; orders and signs of life go through pipes, so a run that waits
for a question or in a pause costs the other ranks nothing.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

import msgspec

from mlxft.engine import rank_network
from mlxft.engine.ports import free_ports
from mlxft.engine.rank import ALIVE_SECONDS, LENGTH, SILENCE_SECONDS
from mlxft.engine.rank_replies import (
    Alive,
    AnyReply,
    Entered,
    Failed,
    Hello,
    Loaded,
    Memory,
    Stepped,
)
from mlxft.errors import FailureCause, RunError
from mlxft.hosts import Host, Hosts
from mlxft.recipe import Recipe
from mlxft.runs.events import RankReport

if TYPE_CHECKING:
    from mlxft.compute.training.rank_orders import Order, Sum

START_SECONDS: Final = 120.0
"""How long a rank's process may take to its first sign of life."""

SLOWEST_LINK: Final = 2e6
"""Bytes a second that a link makes at least; a slower sum counts as cut."""

SUSPENDED_SECONDS: Final = 10.0
"""After so long between two looks at the ranks, one a second, this process was suspended."""

END_SECONDS: Final = 5.0
"""How long ranks may take to end before they are killed."""

SSH_ERROR: Final = 255
"""ssh's own exit status, also where a signal has ended what it ran."""

_NAMING_SECONDS: Final = 5.0
"""How long to wait for the rank that was lost first, when others notice."""

_decoder: msgspec.json.Decoder[AnyReply] = msgspec.json.Decoder(AnyReply)


class Crew:
    """Ranks 1 and up of a run, as its MLX thread commands them.

    `variables` are each rank's own environment variables; `lost` is called once, from another
    thread, when a rank is lost; what it says of it is `loss`.
    """

    def __init__(
        self, hosts: Hosts, variables: Sequence[Mapping[str, str]], lost: Callable[[], object]
    ) -> None:
        self._hosts = hosts
        self._lost = lost
        self._members: list[_Member] = []
        self._changed = threading.Condition()
        self._closing = threading.Event()
        self._base: Mapping[str, str] = {}
        self._backend = ""
        self._variables = variables
        self._ports = free_ports(len(hosts.ranks[0].addresses) or 1)
        self._sums = 0
        self._entered: tuple[float, int] | None = None
        """When rank 0 entered the present sum, and its bytes."""
        self._own = _Work()
        self._loss: str | None = None
        self._cause: FailureCause | None = None

    @property
    def count(self) -> int:
        """All ranks, with rank 0."""
        return self._hosts.count

    @property
    def hosts(self) -> list[str]:
        """The machine of each rank."""
        return [each.name for each in self._hosts.ranks]

    @property
    def backend(self) -> str:
        """How they reach each other, in MLX's word."""
        return self._backend

    @property
    def loss(self) -> str | None:
        """Which rank is lost and how, in words for a sentence."""
        return self._loss

    def start(self) -> None:
        """Start their processes. Raises `RunError` where that fails."""
        for rank, host in enumerate(self._hosts.ranks[1:], 1):
            try:
                process = subprocess.Popen(
                    self._command(rank, host),
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    env={**os.environ, **self._variables[rank]},
                    # Of a group of its own, a stopped process is woken and ended with its parent.
                    process_group=0,
                )
            except OSError as error:
                raise RunError(
                    f"{_name(rank, host)} can't be started ({error.strerror}); is ssh installed?"
                ) from None
            member = _Member(rank, host, process)
            self._members.append(member)
            threading.Thread(target=self._listen, args=(member,), daemon=True).start()
        threading.Thread(target=self._watch, daemon=True).start()
        threading.Thread(target=self._show_life, daemon=True).start()

    def close(self) -> None:
        """End their processes, and wait for that."""
        self._closing.set()
        for each in self._members:
            threading.Thread(target=each.close, daemon=True).start()
        end = time.monotonic() + END_SECONDS
        for each in self._members:
            with contextlib.suppress(subprocess.TimeoutExpired):
                each.process.wait(max(0.0, end - time.monotonic()))
            each.kill()

    def is_stuck(self) -> bool:
        """Whether rank 0 waits in a sum."""
        return self._entered is not None

    # The MLX thread

    def send(self, orders: Sequence[Order]) -> None:
        """Give each of the ranks its order. Raises `RunError` naming one that is lost."""
        self._refuse_lost()
        for member, order in zip(self._members, orders, strict=True):
            data = pickle.dumps(order, protocol=pickle.HIGHEST_PROTOCOL)
            try:
                member.write(LENGTH.pack(len(data)) + data)
            except (OSError, ValueError):
                raise self._error() from None

    def load(self, recipe: Recipe, base: Mapping[str, str]) -> None:
        """Have them load the model, whose weights are those of `base`."""
        from mlxft.compute.training.rank_orders import Load

        self._base = base
        self.send([Load(recipe=recipe)] * (self.count - 1))

    def join(self) -> Sum:
        """Wait until they have, and form the group; adds up an array of each rank.

        Raises `RunError` where a rank is lost or has another model.
        """
        from mlxft.compute.training import rank_work

        with self._changed:
            self._changed.wait_for(lambda: self.loss or all(each.loaded for each in self._members))
        self._refuse_lost()
        for each in self._members:
            self._refuse_other(each)
        self._backend = self._hosts.backend or rank_work.own_backend()
        orders = rank_network.joins(self._backend, self._hosts, self._all_ports())
        self.send(orders[1:])
        with self._summing(0):
            group = rank_work.joined(orders[0])
        summed = rank_work.sum_in(group)

        def sum_of(array: Any) -> Any:
            self._refuse_lost()
            self._sums += 1
            with self._summing(array.nbytes):
                return summed(array)

        return sum_of

    def _refuse_other(self, member: _Member) -> None:
        """Raise `RunError` for a rank that would compute something else."""
        from mlxft.compute import backend

        for name, own in backend.versions().items():
            if name != "python" and member.versions.get(name) != own:
                raise RunError(
                    f"{member.name} has {name} {member.versions.get(name)} where this machine has "
                    f"{own}; install the same versions."
                )
        if member.loaded is not None and member.loaded.base != self._base:
            raise RunError(
                f"{member.name} has other weights of this model; copy the model's folder from this "
                "machine to that one."
            )

    def _all_ports(self) -> list[list[int]]:
        """The ports of each rank."""
        return [self._ports, *(each.loaded.ports for each in self._members if each.loaded)]

    def stepped(self, seconds: float, tokens: int) -> None:
        """Note what rank 0 itself has done of a step."""
        self._own.add(seconds, tokens)

    def reports(self) -> list[RankReport]:
        """What each rank has taken since the last report."""
        from mlxft.compute import backend

        used = backend.memory()
        memory = Memory(active=used.active, peak=used.peak)
        own = self._own.report(0, self._hosts.ranks[0], memory)
        with self._changed:
            return [own, *(each.report() for each in self._members)]

    @contextlib.contextmanager
    def _summing(self, size: int) -> Iterator[None]:
        """Within this rank 0 waits for all ranks; a failure is the loss of one."""
        with self._changed:
            self._entered = time.monotonic(), size
        try:
            yield
        except RuntimeError as error:
            raise self._error() from error
        finally:
            self._entered = None

    def _refuse_lost(self) -> None:
        if self.loss is not None:
            raise self._error()

    def _error(self) -> RunError:
        """The loss, once it is known which rank it was."""
        with self._changed:
            self._changed.wait_for(lambda: self.loss, _NAMING_SECONDS * 2)
        self._lose("the connection to the other ranks is lost")
        loss = self._loss or "the run is ending"
        return RunError(f"{loss[0].upper()}{loss[1:]}; start the run again.", self._cause)

    # Threads of their own

    def _listen(self, member: _Member) -> None:
        """Take in what a rank says, until it ends."""
        assert member.process.stdout is not None
        for line in member.process.stdout:
            with contextlib.suppress(msgspec.DecodeError):
                self._take(member, _decoder.decode(line))
        member.process.wait()
        if self._closing.is_set() or self.loss is not None:
            return
        failed = member.failed
        if failed is not None and failed.by_others:
            # The rank that was lost first is named, if this engine hears of it.
            if not self._closing.wait(_NAMING_SECONDS):
                self._lose(f"{member.name} has lost its connection to another rank")
        elif failed is not None:
            self._lose(f"{member.name}: {failed.message.removesuffix('.')}", failed.cause)
        else:
            self._lose(f"{member.name} {self._ending(member)}")

    def _ending(self, member: _Member) -> str:
        """How a rank that says nothing of it has ended."""
        code = member.process.returncode
        if rank_network.is_local(self._hosts, member.rank):
            return _ending(code)
        if not member.is_heard:
            return f"can't be started over SSH (status {code}; mlxft-tui check-hosts finds out why)"
        if code == SSH_ERROR:
            return "was killed there, or its SSH connection has ended"
        return _ending(code)

    def _take(self, member: _Member, reply: AnyReply) -> None:
        with self._changed:
            member.heard, member.is_heard = time.monotonic(), True
            match reply:
                case Hello(versions=versions):
                    member.versions = versions
                case Alive(memory=memory):
                    member.memory = memory
                case Loaded():
                    member.loaded = reply
                case Entered(number=number):
                    member.sums, member.entered = number, member.heard
                case Stepped(seconds=seconds, tokens=tokens, memory=memory):
                    member.memory = memory
                    member.work.add(seconds, tokens)
                case Failed():
                    member.failed = reply
            self._changed.notify_all()

    def _watch(self) -> None:
        """Notice ranks that are silent, and a cut connection."""
        before = time.monotonic()
        while not self._closing.wait(1.0) and self.loss is None:
            now = time.monotonic()
            if now - before > SUSPENDED_SECONDS:
                self._hear_again(now)
            before = now
            for each in self._members:
                patience = SILENCE_SECONDS if each.is_heard else START_SECONDS
                if now - each.heard > patience:
                    self._lose(f"{each.name} has given no sign of life for {patience:.0f} s")
            if self._is_cut(now):
                self._lose("the connection between the ranks is cut")

    def _hear_again(self, now: float) -> None:
        """Start all waits over: this process itself was suspended."""
        with self._changed:
            for each in self._members:
                each.heard = each.entered = now

    def _is_cut(self, now: float) -> bool:
        """Whether all ranks have waited for the same sum for long."""
        with self._changed:
            if (own := self._entered) is None or not self._sums:
                return False
            since, size = own
            if any(each.sums < self._sums for each in self._members):
                return False
            latest = max(since, *(each.entered for each in self._members))
        return now - latest > SILENCE_SECONDS + size * self.count / SLOWEST_LINK

    def _show_life(self) -> None:
        """Tell remote ranks that this engine lives."""
        while not self._closing.wait(ALIVE_SECONDS):
            for each in self._members:
                with contextlib.suppress(OSError, ValueError):
                    if not rank_network.is_local(self._hosts, each.rank):
                        each.write_if_idle(LENGTH.pack(0))

    def _lose(self, how: str, cause: FailureCause | None = None) -> None:
        """End all ranks because of one, and let no sum wait for them."""
        with self._changed:
            if self._loss is not None or self._closing.is_set():
                return
            self._loss, self._cause = how, cause
            self._changed.notify_all()
        for each in self._members:
            each.kill()
        rank_network.disconnect([port for each in self._all_ports() for port in each])
        self._lost()

    def _command(self, rank: int, host: Host) -> list[str]:
        command = [sys.executable, "-P", "-m", "mlxft.engine", "rank", str(rank)]
        if rank_network.is_local(self._hosts, rank):
            return command
        return rank_network.through_ssh(host, self._variables[rank], [*command, "--remote"])


class _Work:
    """What a rank has done since the last report."""

    def __init__(self) -> None:
        self._forget()

    def _forget(self) -> None:
        self._since, self._steps, self._seconds, self._tokens = time.monotonic(), 0, 0.0, 0

    def add(self, seconds: float, tokens: int) -> None:
        """Note a step."""
        self._steps += 1
        self._seconds += seconds
        self._tokens += tokens

    def report(self, rank: int, host: Host, memory: Memory | None) -> RankReport:
        """What was done, to be forgotten."""
        passed = time.monotonic() - self._since
        found = RankReport(
            rank=rank,
            host=host.name,
            seconds=self._seconds / max(1, self._steps),
            tokens_per_second=self._tokens / self._seconds if self._seconds else 0.0,
            busy=min(1.0, self._seconds / passed) if passed else 0.0,
            active_memory=memory.active if memory else None,
            peak_memory=memory.peak if memory else None,
        )
        self._forget()
        return found


class _Member:
    """One rank's process, and what was heard of it."""

    def __init__(self, rank: int, host: Host, process: subprocess.Popen[bytes]) -> None:
        self.rank, self.host, self.process = rank, host, process
        self.heard, self.is_heard = time.monotonic(), False
        self.versions: dict[str, str] = {}
        self.memory: Memory | None = None
        self.loaded: Loaded | None = None
        self.failed: Failed | None = None
        self.work = _Work()
        self.sums, self.entered = 0, 0.0
        self._writing = threading.Lock()

    @property
    def name(self) -> str:
        """The rank and its machine, as a sentence begins."""
        return _name(self.rank, self.host)

    def report(self) -> RankReport:
        """What it has done since the last report."""
        return self.work.report(self.rank, self.host, self.memory)

    def write(self, data: bytes) -> None:
        """Write to its standard input. Raises `OSError` or `ValueError` if that is closed."""
        with self._writing:
            self._write(data)

    def write_if_idle(self, data: bytes) -> None:
        """The same, unless something is being written."""
        if self._writing.acquire(blocking=False):
            try:
                self._write(data)
            finally:
                self._writing.release()

    def _write(self, data: bytes) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(data)
        self.process.stdin.flush()

    def close(self) -> None:
        """End it by closing its standard input."""
        with contextlib.suppress(OSError, ValueError), self._writing:
            assert self.process.stdin is not None
            self.process.stdin.close()

    def kill(self) -> None:
        """Kill it, if it still runs."""
        with contextlib.suppress(OSError):
            self.process.kill()


def _name(rank: int, host: Host) -> str:
    return f"rank {rank} ({'this machine' if host.is_here else host.name})"


def _ending(code: int) -> str:
    if code >= 0:
        return f"has ended with status {code} (engine.log may say why)"
    try:
        return f"was ended by {signal.Signals(-code).name}"
    except ValueError:
        return f"was ended by signal {-code}"
