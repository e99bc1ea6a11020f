"""Texts that look like keys to somebody's account; a model that learns one tells it to anybody."""

from __future__ import annotations

import re
from typing import Final

_KINDS: Final = (
    ("an OpenAI or Anthropic key", "sk-", r"\bsk-(?:proj-|ant-|svcacct-)?[A-Za-z0-9_-]{20,}"),
    ("a Hugging Face token", "hf_", r"\bhf_[A-Za-z0-9]{30,}"),
    ("a GitHub token", "ghp_", r"\bghp_[A-Za-z0-9]{36,}"),
    ("a GitHub token", "github_pat_", r"\bgithub_pat_[A-Za-z0-9_]{40,}"),
    ("a GitLab token", "glpat-", r"\bglpat-[A-Za-z0-9_-]{20,}"),
    ("an AWS key", "AKIA", r"\bAKIA[0-9A-Z]{16}\b"),
    ("a Google key", "AIza", r"\bAIza[0-9A-Za-z_-]{35}"),
    ("a Slack token", "xox", r"\bxox[abprs]-[0-9A-Za-z-]{20,}"),
    ("a Stripe key", "k_live_", r"\b[sr]k_live_[0-9A-Za-z]{20,}"),
    ("an npm token", "npm_", r"\bnpm_[A-Za-z0-9]{36}"),
    ("a private key", "PRIVATE KEY", r"-----BEGIN [A-Z ]*PRIVATE KEY-----"),
)
_PATTERNS: Final = tuple((name, sign, re.compile(each)) for name, sign, each in _KINDS)


def secret_in(text: str) -> str | None:
    """What kind of key stands in a text, if one does."""
    for name, sign, pattern in _PATTERNS:
        if sign in text and pattern.search(text):
            return name
    return None
