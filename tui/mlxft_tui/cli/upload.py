"""`mlxft-tui upload`: an export to the hub, after a list of its files and a search for secrets."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from mlxft.errors import MlxftError, ModelError, StorageError
from mlxft.hub.upload import UploadPlan, upload, upload_plan
from mlxft.text import figures
from mlxft.text.printable import printable_line


def upload_folder(
    folder: Path,
    repository: str,
    *,
    private: bool,
    confirmed: bool,
    with_secrets: bool,
    as_json: bool,
) -> int:
    """List the files, refuse secrets, ask, and upload. Raises `MlxftError`."""
    try:
        plan = upload_plan(folder, repository, private=private)
    except OSError as error:
        raise StorageError(
            f"{folder}: the files can't be read ({error.strerror or error})."
        ) from None
    for line in _lines(plan):
        print(line, file=sys.stderr)
    if plan.secrets and not with_secrets:
        count = "1 finding" if len(plan.secrets) == 1 else f"{len(plan.secrets)} findings"
        raise ModelError(
            f"{folder}: {count} that should not leave this machine; remove them, or upload them "
            "with --with-secrets."
        )
    if not confirmed and not _is_confirmed(plan):
        print("nothing was uploaded", file=sys.stderr)
        return 1
    _quiet_unless_seen(as_json=as_json)
    commit = upload(plan, "Upload of an export by mlxft-tui")
    if as_json:
        row = {"repository": repository, "page": plan.address, "commit": commit}
        print(json.dumps(row | {"files": [name for name, _, _ in plan.files]}))
    else:
        print(f"uploaded to {printable_line(plan.address)}")
    return 0


def _lines(plan: UploadPlan) -> list[str]:
    return [
        *(f"{_size(size):>9}  {printable_line(name)}" for name, size, _ in plan.files),
        *(printable_line(f"  finding  {each.words}") for each in plan.secrets),
    ]


def _size(count: int) -> str:
    return figures.size(count) if count >= 1e6 else f"{count / 1e3:.1f} kB"


def _is_confirmed(plan: UploadPlan) -> bool:
    if not sys.stdin.isatty():
        raise MlxftError("An upload has to be confirmed; without a terminal add --yes.")
    files = "1 file" if len(plan.files) == 1 else f"{len(plan.files)} files"
    if plan.exists:
        reach = "which exists; files of the same names are replaced"
    else:
        reach = "private" if plan.private else "public: anyone can read it"
    print(
        f"Upload {files}, {figures.size(plan.size)}, to {plan.address} ({reach})? [y/N] ",
        end="",
        file=sys.stderr,
        flush=True,
    )
    return sys.stdin.readline().strip().lower() in ("y", "yes")


def _quiet_unless_seen(*, as_json: bool) -> None:
    """Keep huggingface_hub's bars of progress where they can be seen."""
    if as_json or not sys.stderr.isatty():
        from huggingface_hub.utils import (  # type: ignore[attr-defined]
            disable_progress_bars,
        )

        disable_progress_bars()
