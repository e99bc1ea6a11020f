"""One finding of the doctor."""

from __future__ import annotations

from typing import Final, Literal

import msgspec

Verdict = Literal["ok", "note", "warning", "problem"]
"""`problem` keeps the program from working; `warning` makes it slow or a run likely to fail."""

NOT_KNOWN: Final = "not known"


class Finding(msgspec.Struct, frozen=True):
    """A subject, how it is, what was seen, and what to do about it, if anything."""

    subject: str
    verdict: Verdict
    seen: str
    remedy: str | None = None


def unknown(subject: str) -> Finding:
    """The finding where nothing could be read, as with a missing or hanging tool."""
    return Finding(subject, "note", NOT_KNOWN)
