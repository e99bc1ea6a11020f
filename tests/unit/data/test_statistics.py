"""Statistics of a dataset."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from mlxft.data import near_duplicates
from mlxft.data import statistics as figures
from mlxft.data.reading import batches
from mlxft.data.statistics import (
    Bin,
    Duplicate,
    Fingerprints,
    Lengths,
    Secret,
    Statistics,
    histogram,
    near_overlap,
    overlap,
    prompt_overlap,
    statistics,
    summarize,
)


def of(folder: Path, *lines: str, prints: Fingerprints | None = None) -> Statistics:
    path = folder / "train.jsonl"
    path.write_text("".join(line + "\n" for line in lines))
    return statistics(batches(path, {}), Fingerprints() if prints is None else prints)


class TestStatistics:
    def test_formats_lengths_and_faulty_lines_are_counted(self, tmp_path: Path) -> None:
        found = of(
            tmp_path,
            '{"prompt": "ab", "completion": "cdé"}',
            '{"text": "a"}',
            '{"text": ""}',
            "{",
            '{"text": "bc"}',
        )
        assert found.records == 3
        assert found.faulty_lines == 2
        assert found.formats == {"prompt/completion": 1, "text": 2}
        assert found.lengths == Lengths(3, 8, 1, 2, 5)
        assert sum(each.count for each in found.bins) == 3

    def test_a_duplicate_is_found_whatever_its_json_looks_like(self, tmp_path: Path) -> None:
        found = of(
            tmp_path,
            '{"prompt": "a", "completion": "b"}',
            '{"prompt": "b", "completion": "a"}',
            '{"completion":"\\u0062","prompt":"a","id":7}',
        )
        assert found.duplicates == (Duplicate(3, 1),)
        assert found.duplicate_count == 1

    def test_another_answer_to_the_same_prompt_is_found_in_any_format(self, tmp_path: Path) -> None:
        system = '{"role": "system", "content": "Be brief."}'
        user = '{"role": "user", "content": "Is it on?"}'
        yes, no = (f'{{"role": "assistant", "content": "{word}"}}' for word in ("yes", "no"))
        found = of(
            tmp_path,
            '{"prompt": "Is it on?", "completion": "yes"}',
            '{"prompt": "Is it on?", "completion": "yes"}',
            '{"instruction": "Is it on?", "output": "no"}',
            '{"prompt": "Is it off?", "completion": "no"}',
            f'{{"messages": [{system}, {user}, {yes}]}}',
            f'{{"messages": [{user}, {no}]}}',
            f'{{"messages": [{system}, {user}, {no}]}}',
            # Nobody has asked anything.
            f'{{"messages": [{system}, {yes}]}}',
            f'{{"messages": [{system}, {no}]}}',
            '{"text": "user \\u0000 assistant \\u0000 yes"}',
        )
        assert found.contradictions == (Duplicate(3, 1), Duplicate(7, 5))
        assert found.contradiction_count == 2
        assert found.duplicates == (Duplicate(2, 1),)

    def test_only_the_first_duplicates_are_listed(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(figures, "MAX_LISTED", 2)
        found = of(tmp_path, *['{"text": "a"}'] * 5)
        assert [each.line for each in found.duplicates] == [2, 3]
        assert found.duplicate_count == 4

    def test_records_in_both_splits_are_found(self, tmp_path: Path) -> None:
        train = Fingerprints()
        valid = Fingerprints()
        of(tmp_path, '{"text": "a"}', '{"text": "b"}', prints=train)
        of(tmp_path, '{"text": "c"}', '{"text": "b"}', '{"text": "b"}', prints=valid)
        assert overlap(train, valid) == (2,)
        assert overlap(valid, train) == (2,)

    def test_another_answer_to_a_prompt_of_train_is_found(self, tmp_path: Path) -> None:
        train, valid = Fingerprints(), Fingerprints()
        on = '{"prompt": "Is it on?", "completion": "%s"}'
        off = '{"prompt": "Is it off?", "completion": "%s"}'
        of(tmp_path, '{"text": "a"}', on % "yes", off % "no", on % "maybe", prints=train)
        of(tmp_path, off % "no", '{"text": "b"}', off % "yes", on % "no", prints=valid)
        assert prompt_overlap(train, valid) == (Duplicate(3, 3), Duplicate(4, 2))
        assert prompt_overlap(Fingerprints(), valid) == ()
        assert prompt_overlap(train, Fingerprints()) == ()

    def test_a_near_record_with_a_prompt_of_train_is_one_warning(self, tmp_path: Path) -> None:
        train, valid = Fingerprints(), Fingerprints()
        long = '{"prompt": "Turn on the lamp in my kitchen before seven", "completion": "%s"}'
        words = " ".join(WORDS * 4)
        of(tmp_path, long % words, prints=train)
        of(tmp_path, long % f"{words} today", prints=valid)
        assert near_overlap(train, valid) == ()
        assert prompt_overlap(train, valid) == (Duplicate(1, 1),)


WORDS = ["please", "turn", "on", "the", "lamp", "in", "my", "kitchen", "before", "seven"]


def record(*words: str) -> str:
    return json.dumps({"text": " ".join(words)})


class TestNearDuplicates:
    def test_a_record_with_a_changed_end_is_found(self, tmp_path: Path) -> None:
        long = WORDS * 4
        found = of(tmp_path, record(*long), record(*reversed(long)), record(*long, "today"))
        assert (found.near_duplicates, found.near_count) == ((Duplicate(3, 1),), 1)
        assert found.duplicate_count == 0

    def test_an_exact_duplicate_is_not_a_near_duplicate(self, tmp_path: Path) -> None:
        found = of(tmp_path, record(*WORDS), record(*WORDS))
        assert (found.duplicate_count, found.near_count) == (1, 0)

    def test_short_records_of_one_template_are_not_near_duplicates(self, tmp_path: Path) -> None:
        words = "Turn on lamp {0} in hall {1} then lamp {2} in hall {3} before {4} please now"
        lines = [record(words.format(n, n + 3, n * 7, n + 1, n * 2)) for n in range(50)]
        assert of(tmp_path, *lines).near_count == 0

    def test_text_without_spaces_is_compared_by_its_characters(self, tmp_path: Path) -> None:
        text = "".join(map(chr, range(0x4E00, 0x4E60)))
        found = of(tmp_path, record(text), record(text[::-1]), record(text + "。"))
        assert found.near_duplicates == (Duplicate(3, 1),)

    def test_near_duplicates_in_another_file_are_found(self, tmp_path: Path) -> None:
        train, valid = Fingerprints(), Fingerprints()
        of(tmp_path, record("no"), record(*WORDS * 4), prints=train)
        of(tmp_path, record(*WORDS * 4, "today"), record("yes"), prints=valid)
        assert near_overlap(train, valid) == (Duplicate(1, 2),)

    def test_pairs_come_in_the_same_order_however_many_records_share_a_band(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        prints = Fingerprints()
        texts = [[*WORDS * 4, str(number)] for number in range(40)]
        texts += [[*reversed(WORDS * 4), str(number)] for number in range(40)]
        of(tmp_path, *(record(*words) for words in texts), prints=prints)

        def pairs() -> list[tuple[list[int], list[int]]]:
            found = near_duplicates.near_pairs(prints.sketches, np.zeros(80, bool))
            return [(first.tolist(), second.tolist()) for first, second in found if len(first)]

        def joined(found: list[tuple[list[int], list[int]]], at: int) -> list[int]:
            return [each for pair in found for each in pair[at]]

        together = pairs()
        monkeypatch.setattr(near_duplicates, "_SORTED", 8)
        apart = pairs()
        assert len(apart) > len(together) > 0
        assert [joined(apart, at) for at in (0, 1)] == [joined(together, at) for at in (0, 1)]


class TestSecrets:
    def test_an_api_key_is_found_with_its_line(self, tmp_path: Path) -> None:
        found = of(tmp_path, record("hello"), record("use", "sk-" + "a1" * 20))
        assert found.secrets == (Secret(2, "an OpenAI or Anthropic key"),)

    def test_similar_words_are_not_keys(self, tmp_path: Path) -> None:
        assert of(tmp_path, record("task-oriented", "hf_model", "AKIA")).secret_count == 0


class TestDistribution:
    def test_lengths_are_summarized(self) -> None:
        found = summarize([3, 1, 8])
        assert found is not None
        assert (found.count, found.total, found.shortest, found.median, found.longest) == (
            3,
            12,
            1,
            3,
            8,
        )
        assert summarize([]) is None

    def test_bins_are_of_equal_width_and_hold_every_length(self) -> None:
        assert histogram([1, 2, 3, 4, 10], 5) == (
            Bin(1, 2, 2),
            Bin(3, 4, 2),
            Bin(5, 6, 0),
            Bin(7, 8, 0),
            Bin(9, 10, 1),
        )
        assert histogram([7, 7], 5) == (Bin(7, 7, 2),)
        assert histogram([], 5) == ()
