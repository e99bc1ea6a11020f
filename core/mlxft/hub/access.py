"""Whether the Hugging Face hub can be reached, and what its refusals mean."""

from __future__ import annotations

import os
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.client import HTTPException
from typing import TYPE_CHECKING, Any, Final, Literal

from mlxft.errors import ModelError
from mlxft.storage.paths import expanded

if TYPE_CHECKING:
    from huggingface_hub import HfApi

HUB: Final = "https://huggingface.co"

WAIT_SECONDS: Final = 4.0
"""How long the hub may take to answer; looking up its name has no limit of its own."""

SECONDS_WITHOUT_A_BYTE: Final = 10.0
"""After which a connection is given up."""

Access = Literal["reached", "refused", "slow"]

_TRUE: Final = frozenset({"1", "ON", "YES", "TRUE"})


def is_offline(environment: Mapping[str, str]) -> bool:
    """Whether the user keeps huggingface_hub from the network."""
    return environment.get("HF_HUB_OFFLINE", "").upper() in _TRUE


def has_token(environment: Mapping[str, str]) -> bool:
    """Whether huggingface_hub would find a token; the token itself is never read."""
    if environment.get("HF_TOKEN") or environment.get("HUGGING_FACE_HUB_TOKEN"):
        return True
    home = environment.get("HF_HOME") or "~/.cache/huggingface"
    file = expanded(environment.get("HF_TOKEN_PATH") or f"{home}/token")
    try:
        return file.stat().st_size > 0
    except OSError:
        return False


def endpoint(environment: Mapping[str, str]) -> str:
    """The hub's address, or that of a mirror."""
    return (environment.get("HF_ENDPOINT") or HUB).rstrip("/")


def reach(environment: Mapping[str, str]) -> Access:
    """Whether the hub answers in time; sends no token."""
    found: list[Access] = []
    seconds = WAIT_SECONDS
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
    except (OSError, ValueError, HTTPException):
        return "refused"


def require_hub(subject: str, otherwise: str = ", or use a model of the cache or a folder") -> None:
    """Raise `ModelError` if the hub is out of reach, in a few seconds at most.

    `otherwise` is what can be done without it.
    """
    if is_offline(os.environ):
        raise ModelError(
            f"{subject}: HF_HUB_OFFLINE keeps mlxft-tui from the Hugging Face hub; unset it"
            f"{otherwise}."
        )
    if reach(os.environ) != "reached":
        raise ModelError(
            f"{subject}: the Hugging Face hub can't be reached; check the connection and the proxy "
            f"(HTTPS_PROXY){otherwise}."
        )


def hub_api() -> HfApi:
    """The hub's client, which prints nothing of its own."""
    import logging

    from huggingface_hub import HfApi

    # Its warnings hold signed addresses, and would be painted over the app.
    logging.getLogger("huggingface_hub").setLevel(logging.CRITICAL)
    return HfApi(endpoint=endpoint(os.environ), library_name="mlxft-tui")


@contextmanager
def opened(address: str, **headers: str) -> Iterator[Any]:
    """A response of the hub to read, with its login. Raises huggingface_hub's errors."""
    from huggingface_hub.utils import (  # type: ignore[attr-defined]
        build_hf_headers,
        get_session,
        hf_raise_for_status,
    )

    headers = build_hf_headers(library_name="mlxft-tui") | headers
    with get_session().stream(
        "GET", address, headers=headers, timeout=SECONDS_WITHOUT_A_BYTE
    ) as response:
        hf_raise_for_status(response)
        yield response


@contextmanager
def explained(subject: str, action: str = "download") -> Iterator[None]:
    """Turn what huggingface_hub raises into a `ModelError` of one sentence."""
    from huggingface_hub.errors import (  # type: ignore[attr-defined]
        EntryNotFoundError,
        GatedRepoError,
        HfHubHTTPError,
        HFValidationError,
        HTTPError,
        LocalTokenNotFoundError,
        RepositoryNotFoundError,
    )

    page = f"{endpoint(os.environ)}/{subject}"
    try:
        yield
    except GatedRepoError:
        raise ModelError(f"{subject}: {gated_advice(page)}") from None
    except RepositoryNotFoundError:
        raise ModelError(
            f"{subject}: there is no folder and no Hugging Face model of this name; check the "
            "spelling, or run hf auth login if it is private."
        ) from None
    except EntryNotFoundError:
        raise ModelError(f"{subject}: a file of this model is missing on the hub.") from None
    except LocalTokenNotFoundError:
        raise ModelError(f"{subject}: the hub has to know you; run hf auth login.") from None
    except HfHubHTTPError as error:
        status = error.response.status_code if error.response is not None else 0
        raise ModelError(
            f"{subject}: the Hugging Face hub refused the {action} "
            f"({status or 'no answer'}); {_REMEDIES.get(status, 'try again later')}."
        ) from None
    except HFValidationError:
        raise ModelError(
            f"{subject}: this is not a name on the hub; write it as owner/name."
        ) from None
    except HTTPError:
        raise ModelError(
            f"{subject}: the {action} failed; check the connection and try again."
        ) from None


UNREADABLE: Final = (ValueError, TypeError, LookupError, AttributeError, RecursionError)
"""What reading an answer raises that is no JSON, or not the hub's."""


@contextmanager
def understood(subject: str, action: str = "download") -> Iterator[None]:
    """The same where huggingface_hub reads an answer, which a sign-in page may have given."""
    try:
        with explained(subject, action):
            yield
    except UNREADABLE:
        raise ModelError(
            f"{subject}: the answer to the {action} can't be read, so it may not be the hub's; "
            "sign in on the network's page if it has one, or unset HF_ENDPOINT if it is set."
        ) from None


_REMEDIES: Final = {
    401: "run hf auth login",
    403: "your token doesn't allow it: run hf auth login with one that does",
    429: "too many requests: wait a few minutes, or run hf auth login",
}


def gated_advice(page: str) -> str:
    """What to do about a gated model."""
    return f"this model is gated; accept its licence at {page} and run hf auth login."
