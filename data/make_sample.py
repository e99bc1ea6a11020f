"""Writes the sample data set: plain requests, each with the one line of JSON it stands for.

``python data/make_sample.py [FOLDER]`` writes train, valid and test.jsonl, the same every time.
"""

from __future__ import annotations

import json
import random
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeVar

SEED: Final = 20
INSTRUCTION: Final = "Request to JSON: "
PER_INTENT: Final = {"train": 30, "valid": 5, "test": 5}
"""Records of each intent in a split; ten intents make 300, 50 and 50."""

T = TypeVar("T")


@dataclass(frozen=True)
class Said:
    """A value as a person says it and as the answer writes it."""

    spoken: str
    written: str | int


@dataclass(frozen=True)
class Intent:
    """One thing that can be asked for.

    `slots` are the keys of the answer after ``intent``; every phrase mentions them all.
    """

    name: str
    slots: tuple[str, ...]
    phrases: tuple[str, ...]
    values: Mapping[str, tuple[Said, ...]]


def plain(*words: str) -> tuple[Said, ...]:
    """Values that are written as they are said."""
    return tuple(Said(word, word) for word in words)


_WORDS: Final = {
    2: "two", 3: "three", 4: "four", 5: "five", 6: "six", 7: "seven", 8: "eight", 9: "nine",
    10: "ten", 12: "twelve", 15: "fifteen", 20: "twenty", 25: "twenty-five", 30: "thirty",
    40: "forty", 45: "forty-five", 50: "fifty", 60: "sixty", 70: "seventy", 80: "eighty",
    90: "ninety",
}  # fmt: skip


def numbers(*values: int) -> tuple[Said, ...]:
    """Numbers said in words or in digits."""
    return tuple(Said(said, value) for value in values for said in (_WORDS[value], str(value)))


WEEKDAYS: Final = plain(
    "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"
)
NAMES: Final = plain(
    "Anna", "Ben", "Carla", "David", "Emma", "Felix", "Grace", "Hugo", "Ines", "Jonas", "Kate",
    "Leo", "Maria", "Nina", "Omar", "Paul", "Rosa", "Sam", "Tara", "Yuki", "Mom", "Grandpa",
)  # fmt: skip
ROOMS: Final = plain(
    "kitchen", "bedroom", "bathroom", "living room", "hallway", "garage", "office", "dining room",
    "basement", "guest room",
)  # fmt: skip

INTENTS: Final = (
    Intent(
        "timer",
        ("minutes", "label"),
        (
            "set the {label} timer to {minutes} minutes",
            "start a timer of {minutes} minutes for the {label}",
            "time the {label} for {minutes} minutes",
            "the {label} needs {minutes} minutes, tell me when they are up",
            "count down {minutes} minutes for the {label}",
        ),
        {
            "minutes": numbers(2, 3, 4, 5, 6, 7, 8, 9, 10, 12, 15, 20, 25, 30, 40, 45, 50, 90),
            "label": plain(
                "pasta", "egg", "rice", "pizza", "tea", "cake", "laundry", "bread", "soup",
                "oven", "workout", "meeting",
            ),
        },
    ),
    Intent(
        "alarm",
        ("time", "day"),
        (
            "wake me at {time} on {day}",
            "wake me up on {day} at {time}",
            "set the alarm to {time} on {day}",
            "set an alarm for {day} at {time}",
            "I need an alarm on {day} at {time}",
            "I have to get up at {time} on {day}",
        ),
        {
            "time": plain(
                "5 am", "5:45 am", "6 am", "6:15 am", "6:30 am", "7 am", "7:20 am", "7:45 am",
                "8 am", "8:30 am",
            ),
            "day": WEEKDAYS,
        },
    ),
    Intent(
        "reminder",
        ("task", "day"),
        (
            "remind me to {task} on {day}",
            "remind me on {day} to {task}",
            "don't let me forget to {task} on {day}",
            "I have to {task} on {day}, remind me",
            "remember that I must {task} on {day}",
        ),
        {
            "task": plain(
                "call the dentist", "water the plants", "pay the rent", "feed the cat",
                "take out the trash", "renew my passport", "return the library books",
                "wash the car", "charge the camera", "buy a train ticket", "order new glasses",
                "send the invoice", "back up my laptop", "walk the dog", "pick up the package",
                "fix the bike", "book a hotel", "clean the windows",
            ),
            "day": WEEKDAYS,
        },
    ),
    Intent(
        "event",
        ("title", "time"),
        (
            "schedule {title} for {time}",
            "put {title} on my calendar for {time}",
            "plan {title} at {time}",
            "book {title} at {time}",
            "I have {title} at {time}",
        ),
        {
            "title": plain(
                "lunch", "dinner", "tennis", "yoga", "a video call", "a piano lesson",
                "a project review", "breakfast", "a museum visit", "a haircut",
                "a team meeting",
            ),
            "time": plain(
                "8 am", "9 am", "9:30 am", "10 am", "11 am", "noon", "1 pm", "2 pm", "2:30 pm",
                "3 pm", "4 pm", "5 pm", "5:30 pm", "6 pm", "7 pm",
            ),
        },
    ),
    Intent(
        "message",
        ("to", "text"),
        (
            "tell {to} that {text}",
            "text {to} that {text}",
            "send a message to {to}: {text}",
            "write to {to} that {text}",
            "let {to} know that {text}",
            "message {to} saying {text}",
        ),
        {
            "to": NAMES,
            "text": plain(
                "I am running late", "the meeting is canceled", "dinner is ready",
                "I will be there soon", "the train is delayed", "we won the game",
                "the keys are under the mat", "I can't come today", "the cake was great",
                "my flight has landed", "I found the tickets", "we need more chairs",
                "the doctor called back", "I left the door open", "the movie starts at eight",
                "the package has arrived",
            ),
        },
    ),
    Intent(
        "shopping",
        ("item", "quantity"),
        (
            "add {quantity} {item} to the shopping list",
            "put {quantity} {item} on the list",
            "we need {quantity} {item}",
            "we are out of {item}, get {quantity}",
            "I want to buy {quantity} {item}",
        ),
        {
            "item": plain(
                "eggs", "apples", "lemons", "bananas", "onions", "tomatoes", "candles",
                "batteries", "napkins", "pencils", "notebooks", "light bulbs", "bagels",
                "avocados", "peaches", "potatoes", "carrots", "envelopes",
            ),
            "quantity": numbers(2, 3, 4, 5, 6, 8, 10, 12, 20),
        },
    ),
    Intent(
        "weather",
        ("place", "day"),
        (
            "what will the weather be in {place} on {day}",
            "will it rain in {place} on {day}",
            "will it be cold in {place} on {day}",
            "give me the forecast for {place} on {day}",
            "do I need an umbrella in {place} on {day}",
            "how warm will it get in {place} on {day}",
        ),
        {
            "place": plain(
                "Berlin", "Boston", "Cairo", "Chicago", "Denver", "Dublin", "Lima", "Lisbon",
                "London", "Madrid", "Miami", "Oslo", "Paris", "Rome", "Seattle", "Seoul",
                "Sydney", "Tokyo", "Toronto", "Vienna",
            ),
            "day": WEEKDAYS,
        },
    ),
    Intent(
        "music",
        ("play", "room"),
        (
            "play {play} in the {room}",
            "put on {play} in the {room}",
            "I want to hear {play} in the {room}",
            "start {play} in the {room}",
        ),
        {
            "play": plain(
                "jazz", "rock", "the news", "classical music", "country", "hip hop", "blues",
                "salsa", "piano music", "my workout mix", "disco hits", "a podcast",
                "ocean sounds", "reggae", "folk songs",
            ),
            "room": ROOMS,
        },
    ),
    Intent(
        "light",
        ("room", "percent"),
        (
            "dim the {room} lights to {percent} percent",
            "set the {room} lights to {percent} percent",
            "set the light in the {room} to {percent} percent",
            "I want the {room} lights at {percent} percent",
        ),
        {"room": ROOMS, "percent": numbers(10, 15, 20, 25, 30, 40, 50, 60, 70, 80, 90)},
    ),
    Intent(
        "translate",
        ("text", "to"),
        (
            "translate {text} into {to}",
            "how do you say {text} in {to}",
            "say {text} in {to}",
            "give me the {to} for {text}",
        ),
        {
            "text": plain(
                "good morning", "thank you very much", "where is the station", "see you tomorrow",
                "I am hungry", "how much is this", "happy birthday", "the bill please",
                "nice to meet you", "I don't understand", "have a good trip", "good luck",
                "two tickets please", "good night",
            ),
            "to": plain(
                "Spanish", "French", "German", "Italian", "Japanese", "Dutch", "Greek", "Swedish",
                "Turkish", "Polish",
            ),
        },
    ),
)  # fmt: skip

QUESTION_WORDS: Final = ("what", "will", "is", "do", "how")
MANNERS: Final = ("{}", "{}", "{}", "please {}", "{}, please", "can you {}?", "could you {}?")
"""Ways to put an order; the bare one is the most common."""


ASKED_FOR: Final = {"don't let me forget": "make sure that I don't forget"}
"""How an order begins after ``can you`` that can't stand there as it is."""


def pick(source: random.Random, choices: tuple[T, ...]) -> T:
    """One of the choices; `random()` alone is promised to stay the same between Pythons."""
    return choices[int(source.random() * len(choices))]


def request(source: random.Random, intent: Intent) -> tuple[str, dict[str, str | int]]:
    """A sentence with this intent, and the answer it stands for."""
    phrase = pick(source, intent.phrases)
    said = {slot: pick(source, intent.values[slot]) for slot in intent.slots}
    sentence = phrase.format(**{slot: value.spoken for slot, value in said.items()})
    answer = {slot: value.written for slot, value in said.items()}
    return in_manners(source, sentence), {"intent": intent.name, **answer}


def in_manners(source: random.Random, sentence: str) -> str:
    """The sentence as people put it: a question, a bare order, or a polite one."""
    first = sentence.partition(" ")[0]
    if first in QUESTION_WORDS:
        sentence += "?"
    elif first not in ("I", "we", "the"):
        manner = pick(source, MANNERS)
        for bare, asked_for in ASKED_FOR.items():
            if manner.endswith("?") and sentence.startswith(bare):
                sentence = asked_for + sentence.removeprefix(bare)
        sentence = manner.format(sentence)
    elif source.random() < 0.5:
        sentence += "."
    return sentence[0].upper() + sentence[1:]


def records(source: random.Random, intent: Intent) -> Iterator[dict[str, str]]:
    """Records of one intent without end, no answer twice."""
    seen: set[str] = set()
    while True:
        sentence, answer = request(source, intent)
        completion = json.dumps(answer, ensure_ascii=False)
        if completion not in seen:
            seen.add(completion)
            yield {"prompt": INSTRUCTION + sentence, "completion": completion}


def splits() -> dict[str, list[dict[str, str]]]:
    """The three splits, every intent equally often in each, in mixed order."""
    source = random.Random(SEED)
    streams = [records(source, intent) for intent in INTENTS]
    made = {
        split: [next(stream) for stream in streams for _ in range(count)]
        for split, count in PER_INTENT.items()
    }
    return {split: sorted(rows, key=lambda _: source.random()) for split, rows in made.items()}


def write(folder: Path) -> None:
    """Write the three files."""
    for split, rows in splits().items():
        lines = (json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        (folder / f"{split}.jsonl").write_text("".join(lines), encoding="utf-8", newline="\n")


if __name__ == "__main__":
    write(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent)
