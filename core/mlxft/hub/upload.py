"""Uploads an export to the hub as one commit, of files that were listed and searched before."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from mlxft.errors import ModelError
from mlxft.hub.access import endpoint, has_token, hub_api, require_hub, understood
from mlxft.hub.search import HUB_ID
from mlxft.hub.secrets import Secret, secrets_in

_JOURNAL: Final = "events.jsonl"


@dataclass(frozen=True)
class UploadPlan:
    """What an upload would send, and what should not be in it."""

    folder: Path
    repository: str
    files: tuple[tuple[str, int, int], ...]
    """Names, sizes in bytes, and times of change."""
    secrets: tuple[Secret, ...]
    exists: bool
    """Whether the repository is there already; it stays public or private as it is."""
    private: bool

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(size for _, size, _ in self.files)

    @property
    def address(self) -> str:
        """The repository's page."""
        return f"{endpoint(os.environ)}/{self.repository}"


def upload_plan(folder: Path, repository: str, *, private: bool) -> UploadPlan:
    """The files to upload, searched for secrets. Raises `ModelError`, and `OSError`."""
    _refuse_unfit(folder, repository)
    files = _files(folder)
    names = tuple(name for name, _, _ in files)
    secrets = tuple(secrets_in(folder, names))
    require_hub(repository, otherwise="")
    if not has_token(os.environ):
        raise ModelError(
            f"{repository}: an upload needs a token that may write; run hf auth login, or set "
            "HF_TOKEN."
        )
    with understood(repository, "upload"):
        exists = hub_api().repo_exists(repository)
    return UploadPlan(folder, repository, files, secrets, exists, private)


def _refuse_unfit(folder: Path, repository: str) -> None:
    if not HUB_ID.fullmatch(repository):
        raise ModelError(f"{repository}: this is not a name on the hub; write it as owner/name.")
    if not folder.is_dir():
        raise ModelError(f"{folder}: this folder doesn't exist; name the folder of an export.")
    if (folder / _JOURNAL).exists():
        raise ModelError(
            f"{folder}: this is a run, whose journal names this machine and its files; export it "
            "and upload that (mlxft-tui export RUN --to adapter)."
        )
    if not _files(folder):
        raise ModelError(f"{folder}: there is nothing to upload in this folder.")


def _files(folder: Path) -> tuple[tuple[str, int, int], ...]:
    """All files but hidden ones, those of folders inside too; links are not followed."""
    found: list[tuple[str, int, int]] = []
    for root, folders, names in os.walk(folder):
        folders[:] = sorted(each for each in folders if not each.startswith("."))
        for name in sorted(names):
            path = Path(root) / name
            if not name.startswith(".") and path.is_file() and not path.is_symlink():
                status = path.stat()
                relative = path.relative_to(folder).as_posix()
                found.append((relative, status.st_size, status.st_mtime_ns))
    return tuple(found)


def upload(plan: UploadPlan, message: str) -> str:
    """Send the planned files as one commit, and return its address.

    Nothing is visible on the hub before all files are there. Raises `ModelError`.
    """
    from huggingface_hub import CommitOperationAdd

    if _files(plan.folder) != plan.files:
        raise ModelError(
            f"{plan.folder}: its files have changed since they were listed; upload them again."
        )
    api = hub_api()
    with understood(plan.repository, "upload"):
        try:
            if not plan.exists:
                api.create_repo(plan.repository, private=plan.private, exist_ok=True)
            done = api.create_commit(
                plan.repository,
                [
                    CommitOperationAdd(path_in_repo=name, path_or_fileobj=plan.folder / name)
                    for name, _, _ in plan.files
                ],
                commit_message=message,
            )
        except (RuntimeError, ValueError, OSError) as error:
            if type(error).__module__.startswith("huggingface_hub"):
                raise
            remedy = (
                "correct the metadata of README.md, which the hub doesn't accept"
                if "README.md" in str(error)
                else "try again, which continues it"
            )
            raise ModelError(
                f"{plan.repository}: the upload failed before it was complete, so nothing of it is "
                f"visible; {remedy}."
            ) from error
    return str(done.commit_url)
