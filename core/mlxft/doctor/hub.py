"""Access to the Hugging Face hub; a token is never read further than whether there is one."""

from __future__ import annotations

import os
from collections.abc import Mapping

from mlxft.doctor.finding import Finding, unknown
from mlxft.hub.access import Access, has_token, is_offline, reach


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
