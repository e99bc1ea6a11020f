"""Find API keys and tokens in text: a model trained on one may reveal it to anyone."""

from __future__ import annotations

import re
from typing import Final

_KINDS: Final = (
    ("-", "sk-", "an OpenAI or Anthropic key", r"\bsk-(?:proj-|ant-|svcacct-)?[A-Za-z0-9_-]{20,}"),
    ("-", "glpat-", "a GitLab token", r"\bglpat-[A-Za-z0-9_-]{20,}"),
    ("-", "xox", "a Slack token", r"\bxox[abprs]-[0-9A-Za-z-]{20,}"),
    ("-", "PRIVATE KEY-", "a private key", r"-----BEGIN [A-Z ]*PRIVATE KEY-----"),
    ("_", "hf_", "a Hugging Face token", r"\bhf_[A-Za-z0-9]{30,}"),
    ("_", "gh", "a GitHub token", r"\bgh[opsu]_[A-Za-z0-9]{36,}"),
    ("_", "github_pat_", "a GitHub token", r"\bgithub_pat_[A-Za-z0-9_]{40,}"),
    ("_", "k_live_", "a Stripe key", r"\b[sr]k_live_[0-9A-Za-z]{20,}"),
    ("_", "npm_", "an npm token", r"\bnpm_[A-Za-z0-9]{36}"),
    ("I", "AKIA", "an AWS key", r"\bAKIA[0-9A-Z]{16}\b"),
    ("I", "AIza", "a Google key", r"\bAIza[0-9A-Za-z_-]{35}"),
)
"""A marker shared by many kinds, the kind's own marker, its name and its pattern.

Searching for the markers first is much cheaper than matching the patterns.
"""

_Pattern = tuple[str, str, re.Pattern[str]]
_BY_MARKER: Final[dict[str, list[_Pattern]]] = {}
for _common, _marker, _name, _pattern in _KINDS:
    _BY_MARKER.setdefault(_common, []).append((_marker, _name, re.compile(_pattern)))


def secret_in(text: str) -> str | None:
    """The kind of key found in a text, if any."""
    for common, kinds in _BY_MARKER.items():
        if common in text:
            for marker, name, pattern in kinds:
                if marker in text and pattern.search(text):
                    return name
    return None
