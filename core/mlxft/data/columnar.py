"""Rows of Parquet and Arrow files as records."""

from __future__ import annotations

import io
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO, Any, Final

from mlxft.data.container_errors import ContainerError
from mlxft.data.table_rows import Reader, readers_of, repeated_name, rows_of
from mlxft.storage.paths import cache_dir

BATCH: Final = 500
"""Rows of a table that are in memory at once."""

_PIECE: Final = 1024 * 1024


def parquet_rows(path: Path, file: IO[bytes]) -> Iterator[Any]:
    """Rows of a Parquet file. Raises `ContainerError`."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.ParquetFile(_seekable(file))
        readers = _readers(path, table.schema_arrow)
        for batch in table.iter_batches(BATCH):
            yield from rows_of(batch, readers)
    except (pa.ArrowException, OSError, ValueError, OverflowError) as error:
        raise _broken_table(path, "Parquet", error) from None


def arrow_rows(path: Path, file: IO[bytes]) -> Iterator[Any]:
    """Rows of an Arrow file, or of the stream format that `datasets` writes."""
    import pyarrow as pa

    whole = _seekable(file)
    try:
        try:
            reader = pa.ipc.open_file(whole)
            batches: Iterable[Any] = map(reader.get_batch, range(reader.num_record_batches))
        except pa.ArrowInvalid:
            whole.seek(0)
            batches = reader = pa.ipc.open_stream(whole)
        readers = _readers(path, reader.schema)
        for batch in batches:
            for start in range(0, batch.num_rows, BATCH):
                yield from rows_of(batch.slice(start, BATCH), readers)
    except (pa.ArrowException, OSError, ValueError, OverflowError) as error:
        raise _broken_table(path, "Arrow", error) from None


def _readers(path: Path, schema: Any) -> dict[str, Reader]:
    """How to read the columns. Raises `ContainerError` for a repeated column name."""
    if twice := repeated_name(schema):
        raise ContainerError(path, f"two columns are named {twice}", "rename one of them")
    return readers_of(schema)


def _seekable(file: IO[bytes]) -> IO[bytes]:
    """Tables are read from their end, so a compressed one is unpacked to disk first."""
    if isinstance(getattr(file, "raw", None), io.FileIO):
        return file
    unpacked = tempfile.TemporaryFile(dir=cache_dir() / "records")  # noqa: SIM115 (returned to the caller)
    shutil.copyfileobj(file, unpacked, _PIECE)
    unpacked.seek(0)
    return unpacked


def _broken_table(path: Path, kind: str, error: Exception) -> ContainerError:
    lines = str(error).strip().splitlines()
    reason = lines[0][:160].rstrip(".") if lines else type(error).__name__
    return ContainerError(path, f"this {kind} file is broken ({reason})", "download it again")
