"""What must not leave this machine: keys and tokens in files, and paths of a home folder."""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from mlxft.data.credentials import secret_in

_HOME: Final = re.compile(r"(?<![\w.~])/(?:home|Users|root)/[^\s\"'`,;:)]+|[A-Z]:\\+Users\\+\w+")

_BASE: Final = re.compile(r'"(?:base_model_name_or_path|model)"\s*:|^(?:- )?base[_ ]model:')
"""Where an adapter's config and the model card name the base model."""

_MOST_NAMED: Final = 20
"""Findings of one file."""

_HEADER_BYTES: Final = 4_000_000
"""Of a file of weights only the beginning holds text."""

_WEIGHTS: Final = (".safetensors", ".gguf", ".npz", ".bin", ".pt")
_PRIVATE_NAMES: Final = re.compile(r"\.(?:pem|key|p12|pfx|env)$|^id_(?:rsa|ed25519|ecdsa)|^\.env")


@dataclass(frozen=True)
class Secret:
    """Something found in a file; the text itself is never kept."""

    file: str
    line: int | None
    kind: str

    @property
    def words(self) -> str:
        """Where it is and what."""
        place = f"{self.file}, line {self.line}" if self.line else self.file
        return f"{place}: {self.kind}"


def secrets_in(folder: Path, names: tuple[str, ...]) -> list[Secret]:
    """What is found in these files of a folder. Raises `OSError`."""
    return [each for name in names for each in _secrets_of(folder / name, name)]


def _secrets_of(file: Path, name: str) -> Iterator[Secret]:
    if _PRIVATE_NAMES.search(Path(name).name):
        yield Secret(name, None, "a file that usually holds secrets")
    found = 0
    for number, line in _lines(file):
        for kind in _kinds(line):
            yield Secret(name, number, kind)
            found += 1
            if found >= _MOST_NAMED:
                return


def _kinds(line: str) -> Iterator[str]:
    if kind := secret_in(line):
        yield kind
    if str(Path.home()) in line or _HOME.search(line):
        is_base = _BASE.search(line)
        remedy = " of the base model; write the model's name on the hub there" if is_base else ""
        yield f"a path of a home folder{remedy}"


def _lines(file: Path) -> Iterator[tuple[int | None, str]]:
    """The lines of a text; of weights the text of their header."""
    if file.name.endswith(_WEIGHTS):
        with file.open("rb") as opened:
            yield None, opened.read(_HEADER_BYTES).decode("latin-1")
        return
    with file.open("rb") as opened:
        is_wide = opened.read(2) in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
    encoding = "utf-16" if is_wide else "utf-8"  # As Windows' shell writes.
    with file.open(encoding=encoding, errors="replace") as text:
        yield from enumerate(text, 1)
