"""Paths as a person writes them, and folders of the application that can't be written."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from mlxft.engine.machine import refuse_if_training
from mlxft.errors import StorageError
from mlxft.queue.entries import Queue
from mlxft.queue.store import current_queue, own_store
from mlxft.recipe import Recipe
from mlxft.runs.directory import create
from mlxft.storage.paths import expanded
from mlxft_tui.session import Session


class TestExpanded:
    def test_a_tilde_is_the_home(self) -> None:
        assert expanded("~/models/m") == Path.home() / "models" / "m"

    def test_an_unknown_user_is_left_as_it_is(self) -> None:
        assert expanded("~nobody-here/m") == Path("~nobody-here/m")


class TestAStateFolderThatCannotBeWritten:
    @pytest.mark.parametrize("reason", ["not a directory", "no permission or a read-only disk"])
    def test_runs_and_the_queue_are_refused_with_one_sentence_and_the_queue_is_still_shown(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, reason: str
    ) -> None:
        state = tmp_path / "file" / "state"
        if reason == "not a directory":
            state.parent.touch()
        else:
            state.mkdir(parents=True)
            # Root, which tests may run as, may write everywhere.
            monkeypatch.setattr(os, "access", lambda path, _: path != state)
        monkeypatch.setenv("MLXFT_STATE", str(state))
        for use in (own_store, lambda: refuse_if_training(tmp_path)):
            with pytest.raises(StorageError) as raised:
                use()
            assert str(raised.value) == (
                f"{state}: this folder can't be written ({reason}); check its permissions and its "
                "disk's free space, or set MLXFT_STATE to another folder."
            )
        assert current_queue() == Queue()


def test_a_resume_that_is_refused_for_want_of_a_folder_leaves_the_run_as_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = create(tmp_path / "adapters", Recipe(model="m", iters=5), "run")
    (tmp_path / "file").touch()
    monkeypatch.setenv("MLXFT_RUNTIME", str(tmp_path / "file" / "sockets"))
    session = Session(tmp_path)
    for resume in (lambda: session.change(run, {"iters": 9}), lambda: session.launch(run)):
        with pytest.raises(StorageError, match="set MLXFT_RUNTIME to another folder"):
            resume()
    assert run.recipe().iters == 5
    assert not run.journal_file.exists()
