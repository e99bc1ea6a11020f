"""Access to the Hugging Face hub; a token is never read further than whether there is one."""

from __future__ import annotations

import os
import threading
import urllib.error
import urllib.request
from collections.abc import Mapping
from typing import Final, Literal

from mlxft.doctor.finding import Finding, unknown
from mlxft.storage.paths import expanded

HUB: Final = "https://huggingface.co"

WAIT_SECONDS: Final = 4.0
"""How long the hub may take to answer; looking up its name has no limit of its own."""

Access = Literal["reached", "refused", "slow"]

_TRUE: Final = frozenset({"1", "ON", "YES", "TRUE"})


def is_offline(environment: Mapping[str, str]) -> bool:
    """Whether the user keeps huggingface_hub from the network."""
    return environment.get("HF_HUB_OFFLINE", "").upper() in _TRUE


def has_token(environment: Mapping[str, str]) -> bool:
    """Whether huggingface_hub would find a token."""
    if environment.get("HF_TOKEN") or environment.get("HUGGING_FACE_HUB_TOKEN"):
        return True
    home = environment.get("HF_HOME") or "~/.cache/huggingface"
    file = expanded(environment.get("HF_TOKEN_PATH") or f"{home}/token")
    try:
        return file.stat().st_size > 0
    except OSError:
        return False


def reach(environment: Mapping[str, str], seconds: float = WAIT_SECONDS) -> Access:
    """Whether the hub answers within this time; sends no token."""
    found: list[Access] = []
    address = environment.get("HF_ENDPOINT") or HUB

    def request() -> None:
        found.append(_answered(address, seconds))

    thread = threading.Thread(target=request, daemon=True)
    thread.start()
    thread.join(seconds)
    return found[0] if found else "slow"


def _answered(address: str, seconds: float) -> Access:
    try:
        with urllib.request.urlopen(
            urllib.request.Request(address, method="HEAD"), timeout=seconds
        ):
            return "reached"
    except urllib.error.HTTPError:
        return "reached"  # Any answer is one.
    except TimeoutError:
        return "slow"
    except (OSError, ValueError):
        return "refused"


def hub_findings(environment: Mapping[str, str], access: Access | None) -> list[Finding]:
    """Whether models and datasets can be fetched; `access` is None if it wasn't tried."""
    where = "a mirror (HF_ENDPOINT)" if environment.get("HF_ENDPOINT") else "huggingface.co"
    token = "there is one" if has_token(environment) else "none"
    remedy = None if token != "none" else "Gated and private models need one: hf auth login"
    return [_access(where, access, is_offline(environment)), Finding("token", "ok", token, remedy)]


def _access(where: str, access: Access | None, offline: bool) -> Finding:
    if offline:
        return Finding(
            "hub",
            "note",
            "offline, as HF_HUB_OFFLINE says",
            "Only models in the cache can be used; unset it to fetch others.",
        )
    if access is None:
        return unknown("hub")
    if access == "reached":
        return Finding("hub", "ok", f"{where} answers")
    seen = "doesn't answer in time" if access == "slow" else "can't be reached"
    return Finding(
        "hub",
        "warning",
        f"{where} {seen}",
        "Check the connection and the proxy (HTTPS_PROXY); models in the cache work without it.",
    )


def current_access() -> Access | None:
    """The hub's answer, unless the user is offline on purpose."""
    return None if is_offline(os.environ) else reach(os.environ)
