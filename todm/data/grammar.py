"""Random voice commands and short answers: about 60 words, upper case, no punctuation."""

from __future__ import annotations

import numpy as np

SLOTS: dict[str, list[str]] = {
    "number": ["ONE", "TWO", "THREE", "FOUR", "FIVE", "TEN", "TWENTY", "THIRTY"],
    "unit": ["SECONDS", "MINUTES", "HOURS"],
    "room": ["KITCHEN", "BEDROOM", "OFFICE", "GARDEN"],
    "device": ["LIGHTS", "HEATER", "RADIO", "FAN"],
    "opening": ["DOOR", "WINDOW"],
    "switch": ["ON", "OFF"],
    "move": ["OPEN", "CLOSE"],
    "way": ["UP", "DOWN"],
    "genre": ["JAZZ", "ROCK", "PIANO"],
    "name": ["ANNA", "PETER", "MARIA", "DAVID"],
    "city": ["LONDON", "PARIS", "BERLIN"],
    "day": ["TODAY", "TOMORROW", "MONDAY"],
    "please": ["", "", "", "PLEASE"],
}
"""Words that replace a name in braces."""

REQUESTS: list[str] = [
    "TURN {switch} THE {device} IN THE {room} {please}",
    "TURN {switch} THE {room} {device}",
    "TURN THE {device} {switch} {please}",
    "TURN THE VOLUME {way} {please}",
    "{move} THE {room} {opening} {please}",
    "{move} THE {opening} IN THE {room}",
    "SET THE {device} TO {number} PERCENT {please}",
    "SET THE VOLUME TO {number} PERCENT",
    "SET A TIMER FOR {number} {unit} {please}",
    "PLAY {genre} MUSIC {please}",
    "PLAY {genre} MUSIC IN THE {room}",
    "PLAY {genre} FOR {number} {unit}",
    "STOP THE {genre} MUSIC",
    "STOP THE MUSIC IN THE {room}",
    "STOP THE TIMER {please}",
    "WHAT IS THE WEATHER IN {city} {day}",
    "WHAT IS THE TIME IN {city}",
    "CALL {name} {please}",
    "CALL {name} AND {name} {day}",
    "CALL {number} {number} {number} {number}",
]

ANSWERS: list[str] = [
    "{room}",
    "THE {room}",
    "{device}",
    "THE {room} {device}",
    "{opening}",
    "THE {room} {opening}",
    "{switch}",
    "{move}",
    "{way}",
    "{number} PERCENT",
    "{number} {unit}",
    "{unit}",
    "{number}",
    "{number} {number} {number}",
    "{day}",
    "{genre}",
    "{genre} MUSIC",
    "{name}",
    "{name} AND {name}",
    "{city}",
    "{city} {please}",
    "TURN {way}",
    "CALL {name}",
    "THE TIME",
    "THE TIMER",
    "THE WEATHER",
    "THE VOLUME",
    "STOP",
]
"""Answers to questions of a device. Single words also help to align words with audio."""

ANSWER_SHARE = 0.4


def draw_sentence(rng: np.random.Generator) -> str:
    """Draw a request or answer of 1 to 8 words."""
    templates = ANSWERS if rng.random() < ANSWER_SHARE else REQUESTS
    words = []
    for word in templates[rng.integers(len(templates))].split():
        choices = SLOTS[word.strip("{}")] if word.startswith("{") else [word]
        words += choices[rng.integers(len(choices))].split()
    return " ".join(words)
