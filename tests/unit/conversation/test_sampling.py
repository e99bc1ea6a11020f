"""Sampling settings from and to text."""

from __future__ import annotations

import pytest

from mlxft.conversation.messages import Sampling
from mlxft.conversation.sampling import SETTINGS, check_sampling, with_setting
from mlxft.errors import ModelError

BY_NAME = {each.name: each for each in SETTINGS}


class TestSettings:
    def test_every_field_can_be_set(self) -> None:
        assert set(BY_NAME) == set(Sampling.__struct_fields__)

    @pytest.mark.parametrize(
        ("name", "text", "value"),
        [
            ("temperature", " 0.7 ", 0.7),
            ("top_k", "40", 40),
            ("stop", r"END \n\n a\sb", ("END", "\n\n", "a b")),
            ("stop", "", ()),
        ],
    )
    def test_text_is_parsed_and_formatted_back(self, name: str, text: str, value: object) -> None:
        found = with_setting(Sampling(), BY_NAME[name], text)
        assert getattr(found, name) == value
        assert BY_NAME[name].write(value) == text.strip()

    @pytest.mark.parametrize(
        ("name", "text", "problem"),
        [
            ("temperature", "hot", "temperature is hot; it must be a number."),
            ("top_k", "1.5", "top_k is 1.5; it must be a whole number."),
            ("seed", "", "seed is empty; it must be a whole number."),
            ("top_p", "0", "top_p is 0.0; it must be above 0 and at most 1."),
            ("temperature", "nan", "temperature is nan; it must be from 0 to 100."),
        ],
    )
    def test_an_invalid_value_is_reported(self, name: str, text: str, problem: str) -> None:
        with pytest.raises(ModelError) as refused:
            with_setting(Sampling(), BY_NAME[name], text)
        assert str(refused.value) == problem

    def test_the_vocabulary_bounds_top_k(self) -> None:
        check_sampling(Sampling(top_k=99), 100)
        with pytest.raises(ModelError, match="top_k is 100; it must be from 0 to 99"):
            check_sampling(Sampling(top_k=100), 100)
