"""Search the hub, and judge what it has before any weights are downloaded."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final, Literal
from urllib.parse import urlencode

import msgspec

from mlxft.errors import ModelError
from mlxft.hub.access import UNREADABLE, endpoint, opened, require_hub, understood
from mlxft.hub.listed import ListedModel, Machine, judged
from mlxft.hub.local_models import TOKENIZER_FILES
from mlxft.hub.remote import RemoteModel, remote_config, remote_model

MOST_FOUND: Final = 30
"""Models of a search; each takes two small requests."""

_REQUESTS_AT_ONCE: Final = 8
_LARGEST_ANSWER: Final = 50_000_000

HUB_ID: Final = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")
"""A name on the hub, owner/name."""

HubOrder = Literal["downloads", "likes", "updated"]
HUB_ORDERS: Final[Mapping[HubOrder, str]] = {
    "downloads": "downloads",
    "likes": "likes",
    "updated": "lastModified",
}
"""Orders of a search by the hub's own names."""


def search(
    text: str, machine: Machine, order: HubOrder = "downloads", most: int = MOST_FOUND
) -> list[ListedModel]:
    """The hub's models with this text in their names, each with its verdict on this machine.

    Reads config.json and the sizes of files, never weights. A text that is the name of a model
    finds that one first. Raises `ModelError`, in a few seconds if the hub is out of reach.
    """
    text = text.strip()
    require_hub(f"search for {text}" if text else "search")
    found = _listed(text, order, most)
    if HUB_ID.fullmatch(text) and text not in [each.name for each in found]:
        found.insert(0, ListedModel(name=text, place="hub"))
    with ThreadPoolExecutor(_REQUESTS_AT_ONCE, thread_name_prefix="search") as pool:
        return list(pool.map(lambda each: _judged(each, machine), found))


def _listed(text: str, order: HubOrder, most: int) -> list[ListedModel]:
    # HfApi.list_models has no time limit.
    asked = urlencode(
        {
            "search": text,
            "filter": "safetensors",
            "sort": HUB_ORDERS[order],
            "direction": "-1",
            "limit": most,
            "full": "true",
        }
    )
    raw = b""
    with (
        understood(text or "models", "search"),
        opened(f"{endpoint(os.environ)}/api/models?{asked}") as response,
    ):
        for chunk in response.iter_bytes():
            raw += chunk
            if len(raw) > _LARGEST_ANSWER:
                raise ModelError("The hub's answer to the search is too large to be one.")
    try:
        rows = json.loads(raw)
        return [_from_row(each) for each in rows if HUB_ID.fullmatch(str(each["id"]))][:most]
    except UNREADABLE:
        raise ModelError(
            "The hub's answer to the search can't be read; if HF_ENDPOINT names a mirror, search "
            "without it."
        ) from None


def _from_row(row: Mapping[str, Any]) -> ListedModel:
    def count(key: str) -> int | None:
        value = row.get(key)
        return value if isinstance(value, int) else None

    return ListedModel(
        name=str(row["id"]),
        place="hub",
        downloads=count("downloads"),
        likes=count("likes"),
        updated=str(row.get("lastModified") or "")[:10],
        locked="private" if row.get("private") else "gated" if row.get("gated") else "",
    )


def _judged(listed: ListedModel, machine: Machine) -> ListedModel:
    """The model with the verdict of its config.json, or with why there is none."""
    try:
        model = remote_model(listed.name)
    except ModelError as error:
        return _hindered(listed, str(error))
    sized = msgspec.structs.replace(listed, size=model.size)
    if model.locked and not sized.locked:
        sized = msgspec.structs.replace(sized, locked="gated")
    if lacking := _lacks(model):
        return msgspec.structs.replace(sized, hindrance=lacking)
    try:
        return judged(sized, remote_config(model), machine)
    except ModelError as error:
        return _hindered(sized, str(error))


def _hindered(listed: ListedModel, problem: str) -> ListedModel:
    return msgspec.structs.replace(listed, hindrance=problem.removeprefix(f"{listed.name}: "))


def _lacks(model: RemoteModel) -> str:
    """What a repository would need to be a model, or empty."""
    paths = {each.path for each in model.files}
    if "config.json" not in paths:
        return "it has no config.json"
    if not any(each.endswith(".safetensors") for each in paths):
        return "it has no weights as model*.safetensors"
    return "" if paths.intersection(TOKENIZER_FILES) else "it has no tokenizer"
