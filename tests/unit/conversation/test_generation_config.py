"""The sampling a model's makers advise."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from mlxft.conversation.generation_config import advised_sampling
from mlxft.conversation.messages import Sampling


class TestAdvisedSampling:
    def test_what_the_folder_says_is_taken(self, tmp_path: Path) -> None:
        advised = {"do_sample": True, "temperature": 0.6, "top_p": 0.95, "top_k": 20}
        (tmp_path / "generation_config.json").write_text(json.dumps(advised))
        assert advised_sampling(tmp_path) == Sampling(0.6, 0.95, 20)

    def test_a_model_that_is_not_to_be_sampled_is_greedy(self, tmp_path: Path) -> None:
        (tmp_path / "generation_config.json").write_text('{"temperature": 0.6}')
        assert advised_sampling(tmp_path) == Sampling()

    @pytest.mark.parametrize("text", ["", "[]", "{", '{"do_sample": true, "top_p": "much"}'])
    def test_a_file_that_says_nothing_of_use_changes_nothing(
        self, tmp_path: Path, text: str
    ) -> None:
        (tmp_path / "generation_config.json").write_text(text)
        assert advised_sampling(tmp_path).top_p == 1.0
