"""One file of a download: continued where it was interrupted, and checked before it counts."""

from __future__ import annotations

import contextlib
import hashlib
import os
import socket
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO, Final

from mlxft.errors import ModelError, StorageError
from mlxft.hub.access import explained, opened
from mlxft.hub.remote import CHUNK, RemoteFile, RemoteModel

ATTEMPTS: Final = 5
"""Connections in a row that bring nothing, before a download fails."""

RETRY_SECONDS: Final = 1.0
"""The wait after the first of them; it doubles."""

_NOTHING_THERE: Final = 416
"""The status of a request for bytes after the end."""


class DownloadCancelledError(Exception):
    """The download was cancelled; what has arrived is kept."""


class CheckedFile:
    """A file that grows to its announced size and is then compared with its checksum."""

    def __init__(
        self,
        model: RemoteModel,
        remote: RemoteFile,
        partial: Path,
        cancelled: threading.Event,
        on_bytes: Callable[[int], object],
    ) -> None:
        """`on_bytes` hears how many more bytes are there; fewer after a fresh start."""
        self._model, self.remote = model, remote
        self.partial = partial
        self._cancelled, self._on_bytes = cancelled, on_bytes
        self._checksum: Any = None
        self._size = 0
        self._response: Any = None

    def abort(self) -> None:
        """End a wait for bytes that may never come; `cancelled` is set before."""
        with contextlib.suppress(AttributeError, LookupError, OSError):
            stream = self._response.extensions["network_stream"]
            stream.get_extra_info("socket").shutdown(socket.SHUT_RDWR)

    def fetch(self) -> None:
        """Download what is missing of the file and check all of it.

        Raises `ModelError`, `StorageError` or `DownloadCancelledError`; the file is complete and as
        announced if none is raised.
        """
        try:
            with self.partial.open("a+b") as file:
                had = self._read_again(file)
                self._receive(file)
                if self._checksum.hexdigest() != self.remote.etag and had:
                    # What was there of an earlier download was damaged.
                    self._restart(file)
                    self._receive(file)
                self._refuse_damaged()
                os.fsync(file.fileno())
        except OSError as error:
            raise StorageError(
                f"{self.partial}: the model can't be stored ({error.strerror or error}); free "
                "disk space, or move the hub's cache with HF_HOME."
            ) from None

    def _read_again(self, file: BinaryIO) -> bool:
        """Compute the checksum of what an earlier download has left; whether it left anything."""
        if os.fstat(file.fileno()).st_size > self.remote.size:
            file.truncate(0)
        self._begin()
        file.seek(0)
        while chunk := file.read(CHUNK):
            self._count(chunk)
        return self._size > 0

    def _begin(self) -> None:
        self._size = 0
        # Git's checksum is of a header and the content.
        header = f"blob {self.remote.size}\0".encode()
        self._checksum = hashlib.sha256() if self.remote.is_large else hashlib.sha1(header)

    def _restart(self, file: BinaryIO) -> None:
        file.truncate(0)
        self._on_bytes(-self._size)
        self._begin()

    def _count(self, chunk: bytes) -> None:
        self._checksum.update(chunk)
        self._size += len(chunk)
        self._on_bytes(len(chunk))
        if self._cancelled.is_set():
            raise DownloadCancelledError

    def _receive(self, file: BinaryIO) -> None:
        """Connect as often as the connection brings more."""
        failures = 0
        while self._size < self.remote.size:
            if self._cancelled.is_set():
                raise DownloadCancelledError
            before = self._size
            with explained(self._model.name):
                failed = self._attempt(file)
                failures = 0 if self._size > before else failures + 1
                if failures >= ATTEMPTS:
                    raise failed or self._refused("ends before its announced size")
            if failures and self._cancelled.wait(RETRY_SECONDS * 2 ** (failures - 1)):
                raise DownloadCancelledError

    def _attempt(self, file: BinaryIO) -> Exception | None:
        """One request; returns what ended it if another may do better."""
        from huggingface_hub.errors import HTTPError  # type: ignore[attr-defined]

        try:
            self._stream(file)
        except HTTPError as error:
            response = getattr(error, "response", None)
            status = response.status_code if response is not None else 0
            if status == _NOTHING_THERE:
                raise self._refused("ends before its announced size") from None
            if 400 <= status < 500:
                raise
            return error
        return None

    def _stream(self, file: BinaryIO) -> None:
        """One request for what is missing; returns early where the connection ends early."""
        headers = {"Accept-Encoding": "identity"}
        if self._size:
            headers["Range"] = f"bytes={self._size}-"
        with opened(self._model.address(self.remote.path), **headers) as response:
            self._response = response
            # `abort` may have come before there was a response whose socket it could close.
            if self._cancelled.is_set():
                raise DownloadCancelledError
            if self._size and response.status_code != 206:
                self._restart(file)
            for chunk in response.iter_bytes():
                if self._size + len(chunk) > self.remote.size:
                    self.partial.unlink(missing_ok=True)
                    raise self._refused("is larger than announced")
                file.write(chunk)
                file.flush()
                self._count(chunk)

    def _refuse_damaged(self) -> None:
        if self._checksum.hexdigest() != self.remote.etag:
            self.partial.unlink(missing_ok=True)
            raise self._refused("has another checksum than announced")

    def _refused(self, what: str) -> ModelError:
        return ModelError(
            f"{self._model.name}: {self.remote.path} {what}, so it was not used; download it "
            "again, and ask whoever runs the mirror or proxy if that repeats."
        )
