"""The sampling recommended by a model."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from mlxft.conversation.generation_config import recommended_sampling
from mlxft.conversation.messages import Sampling


class TestRecommendedSampling:
    def test_is_read_from_the_models_folder(self, tmp_path: Path) -> None:
        config = {"do_sample": True, "temperature": 0.6, "top_p": 0.95, "top_k": 20}
        (tmp_path / "generation_config.json").write_text(json.dumps(config))
        assert recommended_sampling(tmp_path) == Sampling(temperature=0.6, top_p=0.95, top_k=20)

    def test_is_greedy_unless_the_model_says_otherwise(self, tmp_path: Path) -> None:
        (tmp_path / "generation_config.json").write_text('{"temperature": 0.6}')
        assert recommended_sampling(tmp_path) == Sampling()

    @pytest.mark.parametrize("text", ["", "[]", "{", '{"do_sample": true, "top_p": "much"}'])
    def test_an_unusable_file_is_ignored(self, tmp_path: Path, text: str) -> None:
        (tmp_path / "generation_config.json").write_text(text)
        assert recommended_sampling(tmp_path).top_p == 1.0
