"""Writes the sample pairs: a message in the tone that is asked for is better than in the other one.

``python data/make_preferences.py [FOLDER]`` writes train, valid and test.jsonl, the same every
time. Each message is the better one of one pair and the worse one of another, so only the prompt
says which is which.
"""

from __future__ import annotations

import json
import random
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeVar

SEED: Final = 21
SUBJECTS: Final = {"train": 20, "valid": 4, "test": 10}
"""Messages of each occasion in a split; of eight: 320, 64 and 160 pairs."""

T = TypeVar("T")


@dataclass(frozen=True)
class Occasion:
    """A reason to write: how it is asked for, and the messages in both tones."""

    asked: str
    formal: tuple[str, ...]
    casual: tuple[str, ...]


NAMES: Final = (
    "Anna", "Ben", "Carla", "David", "Emma", "Felix", "Grace", "Hugo", "Ines", "Jonas", "Kate",
    "Leo", "Maria", "Nina", "Omar", "Paul", "Rosa", "Sam", "Tara", "Yuki",
)  # fmt: skip
DAYS: Final = (
    "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday", "tomorrow",
)  # fmt: skip
THINGS: Final = (
    "report", "presentation", "lunch", "meeting", "book", "concert", "workshop", "photos",
    "tickets", "plan", "garden", "invoice", "trip", "dinner", "project", "interview",
)  # fmt: skip

OCCASIONS: Final = (
    Occasion(
        "thank {name} for the {thing}",
        (
            "Dear {name}, I would like to express my sincere gratitude for the {thing}.",
            "Dear {name}, please accept my thanks for the {thing}; it is greatly appreciated.",
        ),
        (
            "Hey {name}, thanks a ton for the {thing}, you're the best!",
            "Hi {name}! The {thing} was awesome, thanks so much!",
        ),
    ),
    Occasion(
        "apologize to {name} about the {thing}",
        (
            "Dear {name}, I sincerely apologize for the inconvenience regarding the {thing}.",
            "Dear {name}, please accept my apologies concerning the {thing}.",
        ),
        (
            "Hey {name}, so sorry about the {thing}, my bad!",
            "Ugh {name}, I totally messed up the {thing}, sorry!",
        ),
    ),
    Occasion(
        "invite {name} to the {thing} on {day}",
        (
            "Dear {name}, it would be an honor to welcome you to the {thing} on {day}.",
            "Dear {name}, we cordially invite you to attend the {thing} on {day}.",
        ),
        (
            "Hey {name}, wanna come to the {thing} on {day}? It'll be fun!",
            "Yo {name}, {thing} on {day}, you in?",
        ),
    ),
    Occasion(
        "tell {name} that you can't come to the {thing}",
        (
            "Dear {name}, I regret to inform you that I am unable to attend the {thing}.",
            "Dear {name}, unfortunately I will not be able to be present at the {thing}.",
        ),
        (
            "Hey {name}, can't make it to the {thing}, sorry!",
            "Sorry {name}, gotta skip the {thing} this time!",
        ),
    ),
    Occasion(
        "ask {name} for the {thing} by {day}",
        (
            "Dear {name}, I would be grateful if you could provide the {thing} by {day}.",
            "Dear {name}, may I kindly request the {thing} by {day}?",
        ),
        (
            "Hey {name}, can you get me the {thing} by {day}?",
            "Hi {name}, need the {thing} by {day}, cool?",
        ),
    ),
    Occasion(
        "congratulate {name} on the {thing}",
        (
            "Dear {name}, please accept my warmest congratulations on the {thing}.",
            "Dear {name}, allow me to congratulate you on the {thing}.",
        ),
        (
            "Woohoo {name}, congrats on the {thing}!",
            "Way to go {name}, the {thing} rocked!",
        ),
    ),
    Occasion(
        "remind {name} of the {thing} on {day}",
        (
            "Dear {name}, this is a courteous reminder of the {thing} on {day}.",
            "Dear {name}, kindly note that the {thing} takes place on {day}.",
        ),
        (
            "Hey {name}, don't forget the {thing} on {day}!",
            "Psst {name}, the {thing} is on {day}, okay?",
        ),
    ),
    Occasion(
        "ask {name} how the {thing} went",
        (
            "Dear {name}, I would be interested to learn how the {thing} proceeded.",
            "Dear {name}, may I inquire about the outcome of the {thing}?",
        ),
        (
            "Hey {name}, how'd the {thing} go?",
            "So {name}, how was the {thing}? Spill!",
        ),
    ),
)

Pair = dict[str, str]


def pick(source: random.Random, choices: tuple[T, ...]) -> T:
    """One of the choices; `random()` alone is promised to stay the same between Pythons."""
    return choices[int(source.random() * len(choices))]


def pairs(source: random.Random, occasion: Occasion) -> Iterator[list[Pair]]:
    """Both pairs of one message after another, without end, no request twice."""
    seen: set[str] = set()
    while True:
        said = {
            "name": pick(source, NAMES),
            "thing": pick(source, THINGS),
            "day": pick(source, DAYS),
        }
        asked = occasion.asked.format(**said)
        formal = pick(source, occasion.formal).format(**said)
        casual = pick(source, occasion.casual).format(**said)
        if asked in seen:
            continue
        seen.add(asked)
        yield [
            {"prompt": f"Write formally: {asked}.", "chosen": formal, "rejected": casual},
            {"prompt": f"Write casually: {asked}.", "chosen": casual, "rejected": formal},
        ]


def splits() -> dict[str, list[Pair]]:
    """The three splits, every occasion and tone equally often in each, in mixed order."""
    source = random.Random(SEED)
    streams = [pairs(source, occasion) for occasion in OCCASIONS]
    made = {
        split: [pair for stream in streams for _ in range(count) for pair in next(stream)]
        for split, count in SUBJECTS.items()
    }
    return {split: sorted(rows, key=lambda _: source.random()) for split, rows in made.items()}


def write(folder: Path) -> None:
    """Write the three files."""
    folder.mkdir(parents=True, exist_ok=True)
    for split, rows in splits().items():
        lines = (json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        (folder / f"{split}.jsonl").write_text("".join(lines), encoding="utf-8", newline="\n")


if __name__ == "__main__":
    write(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent / "preferences")
