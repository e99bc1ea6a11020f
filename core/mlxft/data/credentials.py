"""Texts that look like keys to somebody's account; a model that learns one tells it to anybody."""

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
    ("AKIA", "AKIA", "an AWS key", r"\bAKIA[0-9A-Z]{16}\b"),
    ("AIza", "AIza", "a Google key", r"\bAIza[0-9A-Za-z_-]{35}"),
)
"""A sign that many kinds have, the kind's own sign, its name and its pattern.

Looking for signs first takes a fraction of the time of the patterns.
"""

_Pattern = tuple[str, str, re.Pattern[str]]
_BY_SIGN: Final[dict[str, list[_Pattern]]] = {}
for _common, _sign, _name, _pattern in _KINDS:
    _BY_SIGN.setdefault(_common, []).append((_sign, _name, re.compile(_pattern)))


def secret_in(text: str) -> str | None:
    """What kind of key stands in a text, if one does."""
    for common, kinds in _BY_SIGN.items():
        if common in text:
            for sign, name, pattern in kinds:
                if sign in text and pattern.search(text):
                    return name
    return None
