"""What the command line and the chat say of an adapter that was trained on other weights."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from mlxft.adapters import base_model
from mlxft.adapters.found import find_adapter
from mlxft.chat.answerers import BASE, Answerer
from mlxft.recipe import Recipe
from mlxft.runs.directory import RunDirectory
from mlxft.runs.followed import read_run
from mlxft_tui.chat.backend import ChatBackend
from mlxft_tui.cli.service import refuse_unusable
from mlxft_tui.session import Session
from support.journal import ended, trained_run, write_run
from support.models import make_tiny_model

NAME = "tiny-1"


@pytest.fixture
def session(tmp_path: Path) -> Session:
    """A project with an adapter of a model whose weights were replaced since."""
    model = make_tiny_model(tmp_path / "model")
    recipe = Recipe(model=str(model))
    run = write_run(tmp_path / "adapters", recipe, [*trained_run(recipe, 2), ended(2)], "tiny")
    layer = "model.layers.0.self_attn.q_proj"
    arrays = {
        f"{layer}.lora_a": np.zeros((32, 8), np.float32),
        f"{layer}.lora_b": np.zeros((8, 32), np.float32),
    }
    save_file(arrays, run.adapter_file, metadata=base_model.metadata(model))
    run.adapter_config_file.write_text(json.dumps({"fine_tune_type": "lora", "model": str(model)}))
    make_tiny_model(model, seed=1)
    # Whatever the file system's clock, it is newer than the first.
    written = (model / "model.safetensors").stat().st_mtime_ns + 10**9
    os.utime(model / "model.safetensors", ns=(written, written))
    return Session(tmp_path)


def test_a_command_says_it_and_continues(
    session: Session, capsys: pytest.CaptureFixture[str]
) -> None:
    adapter = find_adapter(session.adapters, NAME)
    refuse_unusable(session, adapter, adapter.recipe.model)
    said = capsys.readouterr().err
    assert said.startswith("! ")
    assert f"unless you choose the model, {adapter.recipe.model}, that it was trained on" in said


def test_the_chat_says_it_once(session: Session) -> None:
    run = read_run(RunDirectory(session.adapters / NAME))
    backend = ChatBackend(session)
    (said,) = backend.new_warnings((BASE, Answerer(NAME)), run)
    assert "it was trained on other weights than this model's" in said
    assert backend.new_warnings((Answerer(NAME),), run) == []
