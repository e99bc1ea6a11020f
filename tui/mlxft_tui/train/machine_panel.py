"""The machine's load, and MLX's memory against its limit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from mlxft.hosts.names import is_address
from mlxft.hosts.types import HERE
from mlxft.runs.events import RankReport, RunFinished
from mlxft.runs.view import RunView
from mlxft.telemetry.sample import Sample
from mlxft.text import figures
from mlxft_tui.text.cells import Role, Row, Span, heading
from mlxft_tui.widgets.cell_view import CellView
from mlxft_tui.widgets.gauge import bar, load_role, percent

LABEL = 5
"""Cells of a row's name."""

VALUE = 16
"""Cells of a gauge's value."""

GPU_LOADS = (2.0, 2.0)
"""A busy GPU or CPU is never a warning."""

MEMORY_LOADS = (0.85, 0.95)
"""Shares of memory from which the gauge shows a warning, and from which it is red."""

ESTIMATE_ERROR = 0.1
"""Share by which a peak may exceed the estimate before it counts as exceeded."""

LITTLE_DISK = 2 * 10**9
"""Bytes below which the next checkpoint may not fit."""

SHOWN_RANKS = 4
"""Processes of a run that the panel names."""

_RANK_FIGURES = 21
_SLOW = " slow"

THERMAL_LEVELS = ("nominal", "moderate", "heavy", "trapping", "sleeping")
"""macOS's levels of thermal pressure."""

HEAVY_HEAT = 2
"""The level from which macOS throttles the GPU."""


@dataclass(frozen=True, kw_only=True)
class MachineState:
    """What the panel shows; sizes in bytes, None where unavailable."""

    name: str = ""
    on_gpu: bool = False
    """Whether MLX computes on a GPU, even one without figures."""
    sample: Sample | None = None
    active: int | None = None
    peak: int | None = None
    cache: int | None = None
    limit: int | None = None
    estimate: int | None = None
    row: int | None = None
    """Tokens of the longest row, which the estimate is for."""
    ranks: Sequence[RankReport] = ()
    """What each of several processes that train has done."""


def machine_state(
    view: RunView,
    here: Sample | None,
    *,
    live: bool,
    estimate: int | None,
    row: int | None = None,
) -> MachineState:
    """The machine as the live engine samples it, or else as this viewer does."""
    seen = view.machine if live else None
    report = view.report if live else None
    sample = seen.sample if seen else here
    limit = view.backend.memory_limit if view.backend else None
    if limit is None and sample is not None:
        limit = sample.gpu_memory_total or sample.memory_total
    active = seen.active_memory if seen else None
    cache = seen.cache_memory if seen else None
    return MachineState(
        name=view.backend.device if view.backend else "",
        on_gpu=view.backend is not None and view.backend.kind != "cpu",
        sample=sample,
        active=active if active is not None or report is None else report.active_memory,
        peak=_peak(view),
        cache=cache if cache is not None or report is None else report.cache_memory,
        limit=limit,
        estimate=estimate,
        row=row,
        ranks=view.ranks.ranks if view.ranks else (),
    )


def _peak(view: RunView) -> int | None:
    peaks = [view.peak_memory] if view.peak_memory is not None else []
    if view.machine and view.machine.peak_memory is not None:
        peaks.append(view.machine.peak_memory)
    if isinstance(view.ending, RunFinished):
        peaks.append(view.ending.peak_memory)
    return max(peaks, default=None)


class MachinePanel(CellView):
    """Load, memory and heat as bars with values."""

    def __init__(self, id: str | None = None) -> None:  # noqa: A002
        super().__init__(id)
        self._state = MachineState()

    def show(self, state: MachineState) -> None:
        """Show these figures."""
        self._state = state
        self.repaint()

    def rows(self, width: int, height: int) -> Sequence[Row]:
        return machine_rows(self._state, width)


class MachineLine(CellView):
    """Figures in one line, for narrow terminals; the last ones are dropped if they don't fit."""

    def __init__(self, id: str | None = None) -> None:  # noqa: A002
        super().__init__(id)
        self._figures: Sequence[Span] = ()

    def show(self, shown: Sequence[Span]) -> None:
        """Show these figures, the most important first."""
        self._figures = shown
        self.repaint()

    def rows(self, width: int, height: int) -> Sequence[Row]:
        return [fitting(self._figures, width)]


def machine_rows(state: MachineState, width: int) -> list[Row]:
    """The panel at a width; with GPU rows if there is a GPU."""
    sample = state.sample or Sample(time=0)
    rows = [heading((("machine", "strong"),), ((state.name, "muted"),), width)]
    if state.on_gpu or sample.gpu_share is not None or sample.gpu_name is not None:
        rows += _gpu(sample, width)
    rows.append(_gauge("CPU", sample.cpu_share, percent(sample.cpu_share), width))
    used = _share(sample.memory_used, sample.memory_total)
    rows.append(
        _gauge("mem", used, _of(sample.memory_used, sample.memory_total), width, loads=MEMORY_LOADS)
    )
    if sample.memory_wired is not None or sample.memory_compressed is not None:
        rows.append(_line("", _parts(sample)))
    rows.append(_line("swap", _swap(sample)))
    rows += _mlx(state, width)
    rows += _ranks(state.ranks, width)
    return [*rows, *_surroundings(sample)]


def _gpu(sample: Sample, width: int) -> list[Row]:
    rows = [_gauge("GPU", sample.gpu_share, percent(sample.gpu_share), width)]
    facts = (
        (sample.gpu_power, "W"),
        (sample.gpu_frequency_mhz, "MHz"),
        (sample.gpu_temperature, "°C"),
    )
    values = (f"{figures.whole(value)} {unit}" for value, unit in facts)
    rows.append(_line("", ((" · ".join(values), "muted"),)))
    if sample.gpu_memory_total is None and sample.gpu_memory_used is not None:
        text = f"driver uses {_size(sample.gpu_memory_used)}, all programs"
        rows.append(_line("", ((text, "muted"),)))
    elif sample.gpu_memory_total:
        share = _share(sample.gpu_memory_used, sample.gpu_memory_total)
        text = _of(sample.gpu_memory_used, sample.gpu_memory_total)
        rows.append(_gauge("vram", share, text, width, loads=MEMORY_LOADS))
    return rows


def _mlx(state: MachineState, width: int) -> list[Row]:
    marks: dict[float, Span] = {}
    if state.limit:
        if state.peak is not None:
            marks[state.peak / state.limit] = ("┃", "muted")
        if state.estimate is not None:
            marks[state.estimate / state.limit] = ("◆", "other")
    share = _share(state.active, state.limit)
    text = _size(state.active)
    rows = [_gauge("MLX", share, text, width, loads=MEMORY_LOADS, marks=marks)]
    peak: Row = (("┃ ", "muted"), (f"peak {_size(state.peak)}", "plain"))
    rows.append(_line("", (*peak, (f"  cache {_size(state.cache)}", "muted"))))
    if state.estimate is not None:
        rows.append(_line("", _estimate(state.estimate, state.peak, state.limit)))
        if state.row is not None:
            counted = f"MLX only, rows up to {figures.count(state.row)}"
            rows.append(_line("", (("  ", "plain"), (counted, "muted"))))
    return rows


def _ranks(ranks: Sequence[RankReport], width: int) -> list[Row]:
    """Speed, use and memory of each process, under its machine if there are several; of many those
    whose steps take longest."""
    if not ranks:
        return []
    by_time = sorted(ranks, key=lambda each: -each.seconds)
    shown = sorted(by_time[:SHOWN_RANKS], key=lambda each: each.rank)
    several = len({each.host for each in ranks}) > 1
    room = max(8, width - LABEL - _RANK_FIGURES - len(_SLOW))
    rows: list[Row] = []
    if several:
        titles = f"{'':<{room}} {'tok/s':>6} {'busy':>4} {'memory':>8}"
        rows.append(_line("rank", ((titles, "muted"),)))
    for each in shown:
        speed, busy = figures.rate(each.tokens_per_second), percent(each.busy)
        memory = _size(each.active_memory)
        mark: Row = ((_SLOW, "warning"),) if each is by_time[0] else ()
        if several:
            text = f"{_machine(each.host, room):<{room}} {speed:>6} {busy:>4} {memory:>8}"
            rows.append(_line(f"{each.rank:>4}", ((text, "plain"), *mark)))
        else:
            text = f"{each.rank:<3}{speed:>6} tok/s {busy:>4} {memory:>8}"
            rows.append(_line("" if rows else "rank", ((text, "plain"), *mark)))
    if len(ranks) > len(shown):
        rows.append(_line("", ((f"the slowest {len(shown)} of {len(ranks)}", "muted"),)))
    return rows


def _machine(host: str, width: int) -> str:
    """A machine's name without user and domain, at most this wide."""
    name = "here" if host == HERE else host.rpartition("@")[2]
    name = name if is_address(name) else name.partition(".")[0]
    return name if len(name) <= width else f"{name[: width - 1]}…"


def _estimate(estimate: int, peak: int | None, limit: int | None) -> Row:
    runs: list[Span] = [("◆ ", "other"), (f"estimate {figures.gigabytes(estimate)}", "plain")]
    if limit is not None:
        runs.append((f" of {figures.gigabytes(limit)} GB", "muted"))
        runs.append(_verdict(estimate, peak, limit))
    return tuple(runs)


def _verdict(estimate: int, peak: int | None, limit: int) -> Span:
    """Whether the estimate fits, or the measured peak has exceeded it."""
    if estimate > limit:
        return ("  too much", "bad")
    if peak is not None and peak > estimate * (1 + ESTIMATE_ERROR):
        return ("  exceeded", "warning")
    return ("  fits", "good")


def _parts(sample: Sample) -> Row:
    wired, compressed = _size(sample.memory_wired), _size(sample.memory_compressed)
    return ((f"wired {wired}  compressed {compressed}", "muted"),)


def _surroundings(sample: Sample) -> list[Row]:
    """Disk, heat and battery, each only if the machine has it."""
    role: Role = "plain"
    if sample.disk_free is not None and sample.disk_free < LITTLE_DISK:
        role = "bad"
    free = f"{_size(sample.disk_free)} free" if sample.disk_free is not None else figures.NONE
    rows = [_line("disk", ((free, role),))]
    if sample.thermal_level is not None:
        hot = sample.thermal_level >= HEAVY_HEAT
        rows.append(_line("heat", ((_heat(sample.thermal_level), "bad" if hot else "plain"),)))
    if sample.battery_share is not None:
        supply = {True: "  on battery", False: "  on mains", None: ""}[sample.on_battery]
        shown: Role = "warning" if sample.on_battery else "muted"
        rows.append(_line("batt", ((f"{sample.battery_share:.0%}", "plain"), (supply, shown))))
    return rows


def _heat(level: int) -> str:
    return THERMAL_LEVELS[level] if level < len(THERMAL_LEVELS) else f"level {level}"


def _swap(sample: Sample) -> Row:
    runs: list[Span] = [(_size(sample.swap_used), "plain")]
    if sample.memory_pressure is not None:
        role: Role = "muted" if sample.memory_pressure == "normal" else "bad"
        runs.append((f"  pressure {sample.memory_pressure}", role))
    return tuple(runs)


def _gauge(
    name: str,
    share: float | None,
    text: str,
    width: int,
    *,
    loads: tuple[float, float] = GPU_LOADS,
    marks: dict[float, Span] | None = None,
) -> Row:
    length = max(4, width - LABEL - VALUE)
    return (
        (name.ljust(LABEL), "muted"),
        *bar(share, length, load_role(share, *loads), marks),
        (text.rjust(VALUE), "plain"),
    )


def _line(name: str, row: Row) -> Row:
    return ((name.ljust(LABEL), "muted"), *row)


def _size(size: int | None) -> str:
    return figures.NONE if size is None else f"{figures.gigabytes(size)} GB"


def _share(used: int | None, total: int | None) -> float | None:
    return used / total if used is not None and total else None


def _of(used: int | None, total: int | None) -> str:
    if used is None:
        return figures.NONE
    text = f"{figures.gigabytes(used)} of {figures.gigabytes(total)} GB"
    if len(text) <= VALUE or total is None:
        return text
    return f"{used / 1e9:.0f} of {total / 1e9:.0f} GB"  # As on a Mac of 512 GB.


def figures_row(view: RunView, state: MachineState, speed: float | None) -> list[Span]:
    """Speed, learning rate and machine, the most important first."""
    sample = state.sample or Sample(time=0)
    runs: list[Span] = []
    if speed is not None:
        runs.append((f"{figures.rate(speed)} tok/s", "plain"))
    if view.learning_rate is not None:
        runs.append((f"lr {figures.short_rate(view.learning_rate)}", "plain"))
    if sample.gpu_share is not None:
        runs.append((f"GPU {sample.gpu_share:.0%}", "plain"))
    if sample.cpu_share is not None:
        runs.append((f"CPU {sample.cpu_share:.0%}", "plain"))
    if state.active is not None:
        runs.append((f"MLX {figures.gigabytes(state.active)} GB", "plain"))
    if state.peak is not None:
        runs.append((f"peak {figures.gigabytes(state.peak)}", "muted"))
    if state.ranks:
        slowest = max(state.ranks, key=lambda each: each.seconds)
        runs.append((f"rank {slowest.rank} slow", "warning"))
    used = _share(sample.memory_used, sample.memory_total)
    role = load_role(used, *MEMORY_LOADS)
    if sample.memory_used is not None:
        memory = f"mem {_of(sample.memory_used, sample.memory_total)}"
        runs.append((memory, "plain" if role == "bar" else role))
    return runs


def fitting(runs: Sequence[Span], width: int) -> Row:
    """The first of the figures that fit, two cells apart."""
    row: list[Span] = []
    left = width
    for text, role in runs:
        gap = "  " if row else ""
        if len(gap + text) > left:
            break
        row.append((gap + text, role))
        left -= len(gap + text)
    return tuple(row)
