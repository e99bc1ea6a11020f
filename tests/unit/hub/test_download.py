"""Downloads are resumed or refused, and never leave half a model."""

from __future__ import annotations

import contextlib
import hashlib
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mlxft.errors import ModelError, StorageError
from mlxft.hub import checked_file
from mlxft.hub import download as downloads
from mlxft.hub.checked_file import CheckedFile, DownloadCancelledError
from mlxft.hub.download import download
from mlxft.hub.local_models import missing_files
from mlxft.hub.remote import CHUNK, MODEL_FILES
from mlxft.hub.upload import upload_plan
from mlxft.memory.local_config import hub_cache, snapshot_of
from mlxft.runs.events import ProgressMade
from support.hub_server import Fault, HubServer, Repository
from support.models import make_tiny_model

NAME = "org/tiny"
WEIGHTS = "model.safetensors"


@pytest.fixture
def tiny(hub: HubServer, tmp_path: Path) -> Repository:
    """A model on the hub, whose weights take several chunks."""
    folder = make_tiny_model(tmp_path / "made", hidden_size=160, vocab_size=1024)
    assert (folder / WEIGHTS).stat().st_size > 4 * CHUNK
    return hub.add(NAME, folder)


def fetch(seen: list[ProgressMade] | None = None) -> Path:
    return download(NAME, ([] if seen is None else seen).append)


def partial_weights(repository: Repository) -> Path:
    """What has arrived of the weights of an interrupted download."""
    sha256 = hashlib.sha256(repository.files[WEIGHTS]).hexdigest()
    return hub_cache() / "models--org--tiny" / "blobs" / f"{sha256}.incomplete"


def equals(folder: Path, repository: Repository) -> bool:
    return all((folder / name).read_bytes() == raw for name, raw in repository.files.items())


def refusal() -> str:
    with pytest.raises((ModelError, StorageError)) as error:
        fetch()
    assert snapshot_of(NAME) is None
    return str(error.value)


class TestComplete:
    def test_a_model_arrives_in_the_layout_of_the_hubs_own_cache(
        self, tiny: Repository, hub: HubServer
    ) -> None:
        from huggingface_hub import snapshot_download

        seen: list[ProgressMade] = []
        folder = fetch(seen)
        assert equals(folder, tiny)
        assert folder == snapshot_of(NAME)
        total = sum(map(len, tiny.files.values()))
        assert (seen[-1].done, seen[-1].total, seen[-1].note) == (total, total, NAME)
        found = snapshot_download(NAME, cache_dir=hub_cache(), local_files_only=True)
        assert Path(found) == folder
        hub.requests.clear()
        assert fetch() == folder
        assert hub.ranges(WEIGHTS) == []

    def test_a_newer_revision_brings_only_what_has_changed(
        self, tiny: Repository, hub: HubServer
    ) -> None:
        old = fetch()
        tiny.revision = "b" * 40
        tiny.files["tokenizer_config.json"] = b"{}"
        hub.requests.clear()
        new = fetch()
        assert new != old
        assert new == snapshot_of(NAME)
        assert equals(new, tiny)
        assert hub.ranges("tokenizer_config.json") == [""]
        assert hub.ranges(WEIGHTS) == []

    def test_without_a_connection_the_cached_model_is_used(
        self, tiny: Repository, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        folder = fetch()
        monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
        assert fetch() == folder
        (folder / WEIGHTS).unlink()
        with pytest.raises(ModelError, match="hub can't be reached"):
            fetch()

    @pytest.mark.parametrize("page", [b"<html>Sign in</html>", b"[]", b'{"siblings": [{}]}'])
    def test_a_page_in_the_hubs_place_is_not_its_answer(
        self,
        tiny: Repository,
        hub: HubServer,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
        page: bytes,
    ) -> None:
        hub.page = page
        assert "sign in on the network's page" in refusal()
        with monkeypatch.context() as login:
            login.setenv("HF_TOKEN", "hf_" + "planted" * 5)
            with pytest.raises(ModelError, match="the answer to the upload can't be read"):
                upload_plan(tmp_path / "made", NAME, private=True)
        hub.page = None
        there = fetch()
        hub.page = page
        assert fetch() == there

    def test_the_files_are_those_that_mlx_lm_downloads(self) -> None:
        from mlx_lm.utils import DEFAULT_ALLOW_PATTERNS

        assert list(MODEL_FILES) == DEFAULT_ALLOW_PATTERNS


class TestInterrupted:
    def test_a_lost_connection_is_continued_where_it_ended(
        self, tiny: Repository, hub: HubServer
    ) -> None:
        hub.faults[WEIGHTS] = "cut"
        assert equals(fetch(), tiny)
        first, second = hub.ranges(WEIGHTS)
        assert not first
        assert int(second.removeprefix("bytes=").removesuffix("-")) >= CHUNK

    def test_a_cancelled_download_is_continued_by_the_next(
        self, tiny: Repository, hub: HubServer
    ) -> None:
        hub.faults[WEIGHTS] = "held"
        cancelled = threading.Event()
        half = len(tiny.files[WEIGHTS]) // 2

        def cancel(progress: ProgressMade) -> None:
            if progress.done >= half - CHUNK:
                cancelled.set()
                hub.release.set()

        with pytest.raises(DownloadCancelledError):
            download(NAME, cancel, cancelled)
        assert snapshot_of(NAME) is None
        hub.faults.clear()
        hub.requests.clear()
        assert equals(fetch(), tiny)
        assert hub.ranges(WEIGHTS)[0].startswith("bytes=")

    def test_one_that_is_cancelled_while_it_connects_waits_for_no_bytes(
        self, tiny: Repository, hub: HubServer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        hub.faults[WEIGHTS] = "held"
        cancelled, aborted, received = threading.Event(), threading.Event(), list[int]()
        abort, opened, count = CheckedFile.abort, checked_file.opened, CheckedFile._count

        def heard(file: CheckedFile) -> None:
            abort(file)
            aborted.set()

        def counted(file: CheckedFile, chunk: bytes) -> None:
            received.append(len(chunk))
            count(file, chunk)

        @contextlib.contextmanager
        def slowly(*given: Any, **options: Any) -> Iterator[Any]:
            cancelled.set()
            aborted.wait(60)
            with opened(*given, **options) as response:
                yield response

        monkeypatch.setattr(CheckedFile, "abort", heard)
        monkeypatch.setattr(CheckedFile, "_count", counted)
        monkeypatch.setattr(checked_file, "opened", slowly)
        with pytest.raises(DownloadCancelledError):
            download(NAME, lambda _: None, cancelled)
        assert received == []

    def test_damage_to_what_had_arrived_is_repaired(self, tiny: Repository, hub: HubServer) -> None:
        hub.faults[WEIGHTS] = "dead"
        assert "check the connection" in refusal()
        partial = partial_weights(tiny)
        partial.write_bytes(b"\0" * partial.stat().st_size)
        hub.faults.clear()
        assert equals(fetch(), tiny)

    def test_a_second_download_waits_for_the_first(self, tiny: Repository, hub: HubServer) -> None:
        hub.faults[WEIGHTS] = "held"
        waits, found = threading.Event(), list[Path]()

        def wait(progress: ProgressMade) -> None:
            if progress.stage == "waiting":
                waits.set()
                hub.release.set()

        first = threading.Thread(target=lambda: found.append(fetch()))
        first.start()
        try:
            while not hub.ranges(WEIGHTS) and first.is_alive():
                first.join(0.01)
            found.append(download(NAME, wait))
        finally:
            hub.release.set()
            first.join()
        assert waits.is_set()
        assert found[0] == found[1]
        assert hub.ranges(WEIGHTS) == [""]


class TestRefused:
    @pytest.mark.parametrize(
        ("fault", "said"),
        [
            ("corrupt", "another checksum than announced"),
            ("short", "ends before its announced size"),
            ("long", "larger than announced"),
        ],
    )
    @pytest.mark.parametrize("file", [WEIGHTS, "config.json"])
    def test_a_file_that_is_not_the_announced_one(
        self, tiny: Repository, hub: HubServer, file: str, fault: Fault, said: str
    ) -> None:
        hub.faults[file] = fault
        message = refusal()
        assert file in message
        assert said in message
        hub.faults.clear()
        assert equals(fetch(), tiny)

    def test_a_disk_without_enough_space(
        self, tiny: Repository, hub: HubServer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(downloads, "free_space", lambda _: downloads.SPARE_BYTES)
        assert "free some" in refusal()
        assert hub.ranges(WEIGHTS) == []

    def test_a_gated_and_a_private_model_say_what_to_do(
        self, tiny: Repository, hub: HubServer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        tiny.gated = True
        message = refusal()
        assert f"{hub.address}/{NAME}" in message
        assert "accept its licence" in message
        tiny.gated, tiny.private = False, True
        assert "hf auth login if it is private" in refusal()
        monkeypatch.setenv("HF_TOKEN", "hf_" + "planted" * 5)
        assert equals(fetch(), tiny)

    @pytest.mark.parametrize("name", ["../../escaped.json", "a\0.json", "\ud800.json"])
    def test_names_that_no_file_of_the_model_can_have(self, tiny: Repository, name: str) -> None:
        tiny.files[name] = b"{}"
        assert "nothing was downloaded" in refusal()

    def test_a_repository_without_a_model(self, tiny: Repository) -> None:
        del tiny.files[WEIGHTS]
        assert "holds no model" in refusal()

    def test_a_cache_that_can_not_be_written(
        self, tiny: Repository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (tmp_path / "file").touch()
        monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "file" / "hub"))
        assert "move it with HF_HOME" in refusal()

    def test_a_snapshot_that_can_not_be_made(self, tiny: Repository) -> None:
        folder = hub_cache() / "models--org--tiny"
        folder.mkdir(parents=True)
        (folder / "snapshots").touch()
        assert "the hub's cache can't be written" in refusal()
        (folder / "snapshots").unlink()
        assert equals(fetch(), tiny)

    def test_a_disk_without_links_gets_copies(
        self, tiny: Repository, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def refuse(*_: object) -> None:
            raise OSError("no links here")

        monkeypatch.setattr(Path, "symlink_to", refuse)
        folder = fetch()
        assert not (folder / WEIGHTS).is_symlink()
        assert equals(folder, tiny)

    def test_files_in_a_folder_of_before_are_added_to(self, tiny: Repository) -> None:
        folder = fetch()
        (folder / WEIGHTS).unlink()
        os.unlink((folder / "config.json").resolve())
        assert missing_files(folder)
        assert fetch() == folder
        assert not missing_files(folder)
        assert equals(folder, tiny)
