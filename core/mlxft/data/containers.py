"""Files of records of any kind as JSON lines: a plain JSONL file itself, others by a kept copy.

So there is one way to read, index and search records, and memory never grows with a file.
"""

from __future__ import annotations

import bisect
import contextlib
import csv
import functools
import gzip
import hashlib
import io
import itertools
import os
import re
import shutil
import tempfile
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import IO, Any, Final

import msgspec

from mlxft.data.json_records import JsonBreakError, json_records
from mlxft.data.table_rows import fault_row, holds_bytes, repeated_name, rows_of
from mlxft.errors import DataError
from mlxft.paths import cache_dir
from mlxft.text.printable import printable_line

PLAIN: Final = (".jsonl", ".ndjson")
KINDS: Final = (*PLAIN, ".json", ".csv", ".tsv", ".parquet", ".arrow", ".feather")
PACKED: Final = (".gz", ".zst")

KEPT: Final = 16
"""Copies kept, the newest ones."""

BATCH: Final = 500
"""Rows of a table that are in memory at once."""

PIECE: Final = 1024 * 1024

_VERSION: Final = 3
"""Raised when the copies change, so that older ones are not taken."""


class ContainerError(DataError):
    """A file that holds no records that can be got at."""

    def __init__(self, path: Path, problem: str, remedy: str) -> None:
        super().__init__(printable_line(f"{path}: {problem}; {remedy}."))
        self.path = path
        self.problem = problem
        self.remedy = remedy


def kind_of(path: Path) -> str:
    """The suffix that tells a file's kind, without that of its packing; empty for other files."""
    suffixes = [each.lower() for each in path.suffixes]
    if suffixes and suffixes[-1] in PACKED:
        suffixes.pop()
    return suffixes[-1] if suffixes and suffixes[-1] in KINDS else ""


_NUMBERED: Final = re.compile(r"-00000-of-(\d{5})(?=\.)")
"""The first of several files that hold one set."""


def has_lines(path: Path) -> bool:
    """Whether the records of a file are its lines."""
    return path.suffix.lower() not in PACKED and kind_of(path) in (*PLAIN, "")


def is_plain(path: Path) -> bool:
    """Whether a set is one file that is read where it is."""
    return has_lines(path) and len(parts_of(path)) == 1


def parts_of(path: Path) -> tuple[Path, ...]:
    """The files of a set: those of a folder by their names, the numbered ones, or the one file.

    Raises `ContainerError` where a numbered one is missing.
    """
    if path.is_dir():
        found = (each for each in sorted(path.iterdir()) if kind_of(each) and each.is_file())
        return tuple(each for each in found if not each.name.startswith("."))
    numbered = _NUMBERED.search(path.name)
    count = int(numbered[1]) if numbered else 1
    if numbered is None or count < 2:
        return (path,)
    names = (_NUMBERED.sub(f"-{at:05}-of-{count:05}", path.name) for at in range(count))
    parts = tuple(path.with_name(each) for each in names)
    missing = next((each.name for each in parts if not each.exists()), None)
    if missing and path.exists():
        raise ContainerError(path, f"its part {missing} is missing", "put it beside the others")
    return parts


def stamp(path: Path) -> tuple[tuple[str, int, int], ...]:
    """What a set's files are known by, and a change of them; empty where none is there."""
    try:
        found = [(each, each.stat()) for each in parts_of(path)]
    except (OSError, ContainerError):
        return ()
    return tuple((str(each.absolute()), stat.st_mtime_ns, stat.st_size) for each, stat in found)


def as_lines(path: Path) -> Path:
    """The file that holds the records a line each; made anew only where the original has changed.

    Raises `ContainerError` for a file that can't be taken apart, and `OSError`.
    """
    parts = parts_of(path)
    if not parts:
        raise ContainerError(path, "no file in this folder holds records", "choose another")
    if len(parts) == 1 and is_plain(parts[0]):
        return parts[0]
    known = stamp(path)
    if not known:
        return path  # whoever opens it tells why it can't be read
    kept = _kept(known)
    if not kept.exists():
        _keep(path, kept)
    return kept


def _kept(known: tuple[tuple[str, int, int], ...]) -> Path:
    digest = hashlib.blake2b(msgspec.json.encode((_VERSION, known)), digest_size=16)
    return cache_dir() / "records" / f"{digest.hexdigest()}.jsonl"


def place(path: Path, line: int) -> tuple[Path, int]:
    """The file of a set that holds a line of the whole, and the line's number in it."""
    try:
        parts = parts_of(path)
        if len(parts) > 1:
            starts = _starts(_kept(stamp(path)).with_suffix(".parts"))
            at = bisect.bisect_right(starts, line) - 1
            return parts[at], line - starts[at] + 1
    except (OSError, ContainerError, msgspec.DecodeError):
        return path, line
    return (parts or (path,))[0], line


@functools.lru_cache(maxsize=8)
def _starts(kept: Path) -> list[int]:
    return msgspec.json.decode(kept.read_bytes(), type=list[int])


def _keep(path: Path, kept: Path) -> None:
    try:
        kept.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        starts = [1]
        with written(kept) as file:
            for part in parts_of(path):
                starts.append(starts[-1] + _copy(part, file))
        with written(kept.with_suffix(".parts")) as file:
            file.write(msgspec.json.encode(starts[:-1]))
        by_age = sorted(kept.parent.glob("*.jsonl"), key=lambda each: each.stat().st_mtime)
        for old in by_age[:-KEPT]:
            old.unlink(missing_ok=True)
            old.with_suffix(".parts").unlink(missing_ok=True)
    except ContainerError:
        raise
    except (OSError, EOFError, ValueError, zlib.error) as error:
        reason = str(getattr(error, "strerror", None) or error).lower().rstrip(".")
        raise ContainerError(
            path, f"the file can't be unpacked ({reason})", "get it anew or make room on the disk"
        ) from None


def _copy(part: Path, file: IO[bytes]) -> int:
    """Write a file's records, a line each, and count them."""
    lines, last = 0, b"\n"
    for piece in _pieces(part):
        file.write(piece)
        lines, last = lines + piece.count(b"\n"), piece[-1:] or last
    if last != b"\n":
        file.write(b"\n")
    return lines + (last != b"\n")


@contextlib.contextmanager
def written(path: Path) -> Iterator[IO[bytes]]:
    """A file under a temporary name that gets its own when it is whole, and else goes."""
    part = path.with_name(f"{path.name}.{os.getpid()}")
    try:
        with part.open("wb") as file:
            yield file
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def _pieces(path: Path) -> Iterator[bytes]:
    """What the copy holds."""
    kind = kind_of(path)
    with _opened(path) as file:
        if kind in PLAIN or kind == "":
            while piece := file.read(PIECE):
                yield piece
        elif kind == ".json":
            yield from _json(path, file)
        else:
            rows = _TABLES[kind](path, file)
            yield from (_encoded(row) + b"\n" for row in rows)


LFS: Final = b"version https://git-lfs"
"""How the pointer begins that Git LFS leaves in place of a file that wasn't fetched."""
LFS_PROBLEM: Final = "Git LFS left a pointer in place of the file"
LFS_REMEDY: Final = "run git lfs pull"


def _json(path: Path, file: IO[bytes]) -> Iterator[bytes]:
    try:
        yield from json_records(file)
    except JsonBreakError as error:
        raise ContainerError(path, str(error), "correct it, or write a record a line") from None


def _opened(path: Path) -> IO[bytes]:
    with path.open("rb") as file:
        if file.read(len(LFS)) == LFS:
            raise ContainerError(path, LFS_PROBLEM, LFS_REMEDY)
    match path.suffix.lower():
        case ".gz":
            return io.BufferedReader(gzip.GzipFile(path))
        case ".zst":
            return _unpacked(path)
        case _:
            return path.open("rb")


def _unpacked(path: Path) -> IO[bytes]:
    import pyarrow as pa

    return io.BufferedReader(pa.CompressedInputStream(pa.OSFile(str(path)), "zstd"))


def _encoded(row: Any) -> bytes:
    try:
        return msgspec.json.encode(row, enc_hook=str)
    except (UnicodeEncodeError, TypeError, ValueError, RecursionError):
        told = fault_row("the row holds text that is not UTF-8", "save the file as UTF-8")
        return msgspec.json.encode(told)


# Tables


def _comma_separated(path: Path, file: IO[bytes]) -> Iterator[Any]:
    yield from _separated(path, file, None)


def _tab_separated(path: Path, file: IO[bytes]) -> Iterator[Any]:
    yield from _separated(path, file, "\t")


_LONGEST_CELL: Final = 2**31 - 1


def _separated(path: Path, file: IO[bytes], separator: str | None) -> Iterator[Any]:
    """The rows below a header; where the separator isn't in that, its commonest one."""
    csv.field_size_limit(_LONGEST_CELL)
    text = io.TextIOWrapper(file, "utf-8-sig", errors="surrogateescape", newline="")
    lines = _Counted(text)
    header, separator = _header(path, lines, separator)
    rows = csv.reader(lines, delimiter=separator)
    while True:
        before = lines.count
        try:
            cells = next(rows)
        except StopIteration:
            return
        except csv.Error as error:
            yield fault_row(f"the row can't be read ({error})", "correct its quotes")
            continue
        if lines.ended:
            # Only within quotes does the reader go on to the file's end, and says nothing.
            taken = f"{lines.count - before} lines from there on are one cell"
            yield fault_row(f"the row's quotes never close, so that {taken}", "close them")
        elif cells:
            yield _row(header, cells)


_LONGEST_HEADER: Final = 1000
"""Lines that the names of columns can take, so that an open quote there doesn't take the file."""

_QUOTED: Final = re.compile('"[^"]*"')


def _header(path: Path, lines: _Counted, separator: str | None) -> tuple[list[str], str]:
    """The names of the columns and what stands between them; a quoted name may break its line."""
    taken = _Counted(itertools.islice(lines, _LONGEST_HEADER))
    first = next(iter(taken), "")
    if "\0" in first:
        raise ContainerError(path, "the file is UTF-16 or no text", "save it as UTF-8")
    whole, kept = itertools.tee(itertools.chain([first], taken))
    next(csv.reader(whole, delimiter=_separator_in(first, separator)), None)
    if first and taken.ended:
        raise ContainerError(path, "the quotes of a column's name never close", "close them")
    written = list(itertools.islice(kept, taken.count))
    separator = _separator_in("".join(written), separator)
    header = [name.strip() for name in next(csv.reader(written, delimiter=separator), [])]
    if twice := next((name for name in header if name and header.count(name) > 1), None):
        raise ContainerError(path, f"two columns are named {twice}", "rename one of them")
    return header, separator


def _separator_in(header: str, wanted: str | None) -> str:
    """The one that is wanted, if the header has it, or the commonest one outside of quotes."""
    if wanted and wanted in header:
        return wanted
    return max(",;\t|", key=_QUOTED.sub("", header).count)


class _Counted:
    """Lines of a file, counted as they are taken."""

    def __init__(self, lines: Iterable[str]) -> None:
        self._lines = lines
        self.count = 0
        self.ended = False

    def __iter__(self) -> Iterator[str]:
        for line in self._lines:
            self.count += 1
            yield line
        self.ended = True


def _row(header: list[str], cells: list[str]) -> dict[str, Any]:
    if len(cells) != len(header):
        return fault_row(
            f"the row has {len(cells)} cell{'s' * (len(cells) > 1)} under {len(header)} columns",
            "put cells that hold the separator into double quotes",
        )
    return dict(zip(header, cells, strict=True))


def _parquet(path: Path, file: IO[bytes]) -> Iterator[Any]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.ParquetFile(_seekable(file))
        has_bytes = _looked_at(path, table.schema_arrow)
        for batch in table.iter_batches(BATCH):
            yield from rows_of(batch, has_bytes)
    except (pa.ArrowException, OSError, ValueError, OverflowError) as error:
        raise _broken_table(path, "Parquet", error) from None


def _arrow(path: Path, file: IO[bytes]) -> Iterator[Any]:
    """An Arrow file, or the stream that `datasets` keeps."""
    import pyarrow as pa

    whole = _seekable(file)
    try:
        try:
            reader = pa.ipc.open_file(whole)
            batches: Iterable[Any] = map(reader.get_batch, range(reader.num_record_batches))
        except pa.ArrowInvalid:
            whole.seek(0)
            batches = reader = pa.ipc.open_stream(whole)
        has_bytes = _looked_at(path, reader.schema)
        for batch in batches:
            for start in range(0, batch.num_rows, BATCH):
                yield from rows_of(batch.slice(start, BATCH), has_bytes)
    except (pa.ArrowException, OSError, ValueError, OverflowError) as error:
        raise _broken_table(path, "Arrow", error) from None


def _looked_at(path: Path, schema: Any) -> bool:
    """Whether a table holds bytes. Raises `ContainerError` where a name is there twice."""
    if twice := repeated_name(schema):
        raise ContainerError(path, f"two columns are named {twice}", "rename one of them")
    return holds_bytes(schema)


def _seekable(file: IO[bytes]) -> IO[bytes]:
    """Tables are read from their end; a packed one is unpacked onto the disk for that."""
    if isinstance(getattr(file, "raw", None), io.FileIO):
        return file
    unpacked = tempfile.TemporaryFile(dir=cache_dir() / "records")  # noqa: SIM115 (is given on)
    shutil.copyfileobj(file, unpacked, PIECE)
    unpacked.seek(0)
    return unpacked


def _broken_table(path: Path, kind: str, error: Exception) -> ContainerError:
    lines = str(error).strip().splitlines()
    reason = lines[0][:160].rstrip(".") if lines else type(error).__name__
    return ContainerError(path, f"this is no whole {kind} file ({reason})", "get it anew")


_TABLES: Final[Mapping[str, Callable[[Path, IO[bytes]], Iterator[Any]]]] = {
    ".csv": _comma_separated,
    ".tsv": _tab_separated,
    ".parquet": _parquet,
    ".arrow": _arrow,
    ".feather": _arrow,
}
