"""Read files of any supported kind as JSON Lines: JSONL in place, others through a cached copy.

So there is one way to read, index and search records, and memory never grows with the file.
"""

from __future__ import annotations

import bisect
import contextlib
import errno
import functools
import gzip
import hashlib
import io
import os
import zlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from stat import S_ISREG
from typing import IO, Any, Final

import msgspec

from mlxft.data.columnar import arrow_rows, parquet_rows
from mlxft.data.container_errors import LFS, LFS_PROBLEM, LFS_REMEDY, ContainerError
from mlxft.data.csv_rows import csv_rows
from mlxft.data.json_records import JsonBreakError, is_one_value, json_records
from mlxft.data.split_files import (
    COMPRESSED,
    PLAIN,
    kind_of,
    parts_of_split,
    record_files,
    shards_of,
)
from mlxft.data.table_rows import fault_row
from mlxft.storage.paths import cache_dir

KEPT: Final = 16
"""Newest copies kept in the cache."""

PIECE: Final = 1024 * 1024

_BEGINNING: Final = 64 * 1024
"""Bytes that tell JSON Lines from other JSON."""

_VERSION: Final = 5
"""Raised when the format of the copies changes, to ignore older ones."""


def has_lines(path: Path) -> bool:
    """Whether each line of the file is a record."""
    if path.suffix.lower() in COMPRESSED or kind_of(path) not in (*PLAIN, ""):
        return False
    try:
        stat = path.stat()
        return not S_ISREG(stat.st_mode) or _is_json_lines(path, stat.st_mtime_ns, stat.st_size)
    except OSError:
        return True


@functools.lru_cache(maxsize=64)
def _is_json_lines(path: Path, changed: int, size: int) -> bool:
    """`has_lines` of a version of a file, by its content: some name any JSON ``.jsonl``."""
    with path.open("rb") as file:
        return not is_one_value(file.read(_BEGINNING))


def is_plain(path: Path) -> bool:
    """Whether the dataset is one file that is read in place."""
    return has_lines(path) and len(parts_of(path)) == 1


def parts_of(path: Path) -> tuple[Path, ...]:
    """The files of a dataset: a folder's files, all files of a split, all shards, or the file.

    Raises `ContainerError` if a shard is missing.
    """
    if path.is_dir():
        return tuple(record_files(path))
    if files := parts_of_split(path):
        return files
    parts = shards_of(path)
    missing = next((each.name for each in parts if not each.exists()), None)
    if missing and len(parts) > 1 and path.exists():
        raise ContainerError(path, f"the shard {missing} is missing", "put it beside the others")
    return parts


def exists(path: Path) -> bool:
    """Whether a dataset has any file."""
    return path.exists() or bool(parts_of_split(path))


def stamp(path: Path) -> tuple[tuple[str, int, int], ...]:
    """Name, time and size of each file, to detect changes; empty if there is none."""
    try:
        found = [(each, each.stat()) for each in parts_of(path)]
    except (OSError, ContainerError):
        return ()
    return tuple((str(each.absolute()), stat.st_mtime_ns, stat.st_size) for each, stat in found)


def as_lines(path: Path) -> Path:
    """A file with one record per line; a cached copy is rebuilt only if the original changed.

    Raises `ContainerError` for a file that can't be read, and `OSError`.
    """
    parts = parts_of(path)
    if not parts:
        raise ContainerError(path, "no file in this folder holds records", "choose another folder")
    if len(parts) == 1 and is_plain(parts[0]):
        return parts[0]
    known = stamp(path)
    if not known:
        return path  # opening it raises the reason
    kept = _kept(known)
    if not kept.exists():
        _keep(path, kept)
    return kept


def _kept(known: tuple[tuple[str, int, int], ...]) -> Path:
    key = repr((_VERSION, known)).encode("utf-8", "surrogateescape")
    digest = hashlib.blake2b(key, digest_size=16)
    return cache_dir() / "records" / f"{digest.hexdigest()}.jsonl"


def place(path: Path, line: int) -> tuple[Path, int]:
    """The file of a dataset that holds this line, and the line's number in that file."""
    return locator(path)(line)


def locator(path: Path) -> Callable[[int], tuple[Path, int]]:
    """`place` for many lines of a dataset."""
    try:
        parts = parts_of(path) or (path,)
        starts = _starts(_kept(stamp(path)).with_suffix(".parts")) if len(parts) > 1 else [1]
    except (OSError, ContainerError, msgspec.DecodeError):
        parts, starts = (path,), [1]

    def located(line: int) -> tuple[Path, int]:
        at = max(0, bisect.bisect_right(starts, line) - 1)
        return parts[at], line - starts[at] + 1

    return located


@functools.lru_cache(maxsize=8)
def _starts(kept: Path) -> list[int]:
    return msgspec.json.decode(kept.read_bytes(), type=list[int])


def _keep(path: Path, kept: Path) -> None:
    try:
        kept.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        starts = [1]
        with atomic_write(kept) as file:
            for part in parts_of(path):
                starts.append(starts[-1] + copy_lines(part, file))
        with atomic_write(kept.with_suffix(".parts")) as file:
            file.write(msgspec.json.encode(starts[:-1]))
        by_age = sorted(kept.parent.glob("*.jsonl"), key=lambda each: each.stat().st_mtime)
        for old in by_age[:-KEPT]:
            old.unlink(missing_ok=True)
            old.with_suffix(".parts").unlink(missing_ok=True)
    except ContainerError:
        raise
    except (OSError, EOFError, ValueError, zlib.error) as error:
        reason = str(getattr(error, "strerror", None) or error).lower().rstrip(".")
        if isinstance(error, OSError) and _is_of(error, kept.parent):
            raise ContainerError(
                path,
                f"its records can't be kept in {kept.parent} ({reason})",
                "free disk space or move the cache with MLXFT_CACHE",
            ) from None
        raise ContainerError(
            path, f"the file can't be unpacked ({reason})", "download it again"
        ) from None


def _is_of(error: OSError, folder: Path) -> bool:
    """Whether it was writing to the folder that failed, not reading the original."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return True
    path = Path(os.fsdecode(error.filename)) if isinstance(error.filename, str | bytes) else None
    return path is not None and (path.is_relative_to(folder) or folder.is_relative_to(path))


def copy_lines(part: Path, file: IO[bytes]) -> int:
    """Write a file's records, one per line, and count them.

    Raises `ContainerError` and whatever a decompressor raises.
    """
    lines, last = 0, b"\n"
    for piece in _pieces(part):
        file.write(piece)
        lines, last = lines + piece.count(b"\n"), piece[-1:] or last
    if last != b"\n":
        file.write(b"\n")
    return lines + (last != b"\n")


@contextlib.contextmanager
def atomic_write(path: Path) -> Iterator[IO[bytes]]:
    """Write a file under a temporary name; rename it when complete, remove it on error."""
    part = path.with_name(f"{path.name}.{os.getpid()}")
    try:
        with part.open("wb") as file:
            yield file
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def _pieces(path: Path) -> Iterator[bytes]:
    """The content of the copy, in pieces."""
    kind = kind_of(path)
    with _opened(path) as file:
        if kind in (*PLAIN, "") and not is_one_value(_peeked(file)):
            while piece := file.read(PIECE):
                yield piece
        elif kind in (*PLAIN, "", ".json"):
            yield from _json(path, file)
        else:
            rows = _TABLES[kind](path, file)
            yield from (_encoded(row) + b"\n" for row in rows)


def _json(path: Path, file: IO[bytes]) -> Iterator[bytes]:
    try:
        yield from json_records(file)
    except JsonBreakError as error:
        raise ContainerError(path, str(error), error.remedy) from None


def _peeked(file: io.BufferedReader) -> bytes:
    return file.peek(_BEGINNING)[:_BEGINNING]


def _opened(path: Path) -> io.BufferedReader:
    with path.open("rb") as file:
        if file.read(len(LFS)) == LFS:
            raise ContainerError(path, LFS_PROBLEM, LFS_REMEDY)
    match path.suffix.lower():
        case ".gz":
            return io.BufferedReader(gzip.GzipFile(path), _BEGINNING)
        case ".zst":
            return _unpacked(path)
        case _:
            return io.BufferedReader(path.open("rb", buffering=0), _BEGINNING)


def _unpacked(path: Path) -> io.BufferedReader:
    import pyarrow as pa

    return io.BufferedReader(pa.CompressedInputStream(pa.OSFile(str(path)), "zstd"), _BEGINNING)


def _encoded(row: Any) -> bytes:
    try:
        return msgspec.json.encode(row, enc_hook=str)
    except (UnicodeEncodeError, TypeError, ValueError, RecursionError):
        fault = fault_row("the row holds text that is not UTF-8", "save the file as UTF-8")
        return msgspec.json.encode(fault)


_TABLES: Final[Mapping[str, Callable[[Path, IO[bytes]], Iterator[Any]]]] = {
    ".csv": csv_rows,
    ".tsv": functools.partial(csv_rows, separator="\t"),
    ".parquet": parquet_rows,
    ".arrow": arrow_rows,
    ".feather": arrow_rows,
}
