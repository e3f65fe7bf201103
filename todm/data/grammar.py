"""Sentences of the kind said to a device: about 130 words, upper case, no punctuation."""

from __future__ import annotations

import numpy as np

_UNITS = ["ONE", "TWO", "THREE", "FOUR", "FIVE", "SIX", "SEVEN", "EIGHT", "NINE"]
_TEENS = ["TEN", "ELEVEN", "TWELVE", "FIFTEEN"]
_TENS = ["TWENTY", "THIRTY", "FORTY", "FIFTY"]

SLOTS: dict[str, list[str]] = {
    "digit": ["ZERO", *_UNITS],
    "hour": [*_UNITS, "TEN", "ELEVEN", "TWELVE"],
    "number": [*_UNITS, *_TEENS, *_TENS, *(f"{ten} {unit}" for ten in _TENS for unit in _UNITS[:8])],
    "percent": [*_TENS, "SIXTY", "HUNDRED"],
    "unit": ["SECONDS", "MINUTES", "HOURS"],
    "room": ["KITCHEN", "BEDROOM", "OFFICE", "GARDEN", "GARAGE", "BATHROOM"],
    "device": ["LIGHTS", "LAMP", "HEATER", "FAN", "RADIO", "TELEVISION"],
    "opening": ["DOOR", "WINDOW", "CURTAINS"],
    "colour": ["RED", "BLUE", "GREEN", "YELLOW", "WHITE"],
    "switch": ["ON", "OFF"],
    "move": ["OPEN", "CLOSE"],
    "way": ["UP", "DOWN"],
    "genre": ["JAZZ", "ROCK", "PIANO", "CLASSICAL"],
    "step": ["NEXT", "PREVIOUS"],
    "name": ["ANNA", "PETER", "MARIA", "DAVID", "LUCY", "THOMAS"],
    "place": ["AIRPORT", "STATION", "HOSPITAL", "LIBRARY", "MARKET", "SCHOOL"],
    "city": ["LONDON", "PARIS", "BERLIN", "MADRID"],
    "day": ["TODAY", "TOMORROW", "TONIGHT", "MONDAY", "FRIDAY", "SUNDAY"],
    "fall": ["RAIN", "SNOW"],
    "ware": ["MILK", "BREAD", "COFFEE", "APPLES"],
    "please": ["", "", "", "PLEASE"],
}
"""What may stand for a word in braces."""

REQUESTS: list[str] = [
    "TURN {switch} THE {device} IN THE {room} {please}",
    "TURN {switch} THE {room} {device}",
    "TURN THE {device} {switch} {please}",
    "{move} THE {room} {opening} {please}",
    "MAKE THE {room} LIGHTS {colour}",
    "SET THE {room} LIGHTS TO {percent} PERCENT",
    "SET THE HEATER TO {number} DEGREES {please}",
    "SET A TIMER FOR {number} {unit} {please}",
    "SET AN ALARM FOR {hour} {number} {day}",
    "WAKE ME AT {hour} {day}",
    "STOP THE TIMER",
    "HOW MUCH TIME IS LEFT",
    "WHAT TIME IS IT IN {city}",
    "PLAY SOME {genre} MUSIC {please}",
    "PLAY SOME {genre} MUSIC IN THE {room}",
    "PLAY THE {step} SONG {please}",
    "STOP THE MUSIC IN THE {room}",
    "TURN THE VOLUME {way} {please}",
    "SET THE VOLUME TO {percent} PERCENT",
    "DRIVE TO THE {place} {please}",
    "HOW FAR IS IT TO THE {place}",
    "SHOW ME THE WAY TO THE {place} IN {city}",
    "WHAT IS THE WEATHER IN {city} {day}",
    "WILL IT {fall} IN {city} {day}",
    "CALL {name} {please}",
    "CALL {name} AT {hour} {day}",
    "CALL {digit} {digit} {digit} {digit} {digit} {digit}",
    "SEND A MESSAGE TO {name} AND {name}",
    "BUY {ware} AND {ware} {day}",
    "REMIND ME TO CALL {name} AT {hour}",
    "REMIND ME TO BUY {ware} {day} {please}",
]

ANSWERS: list[str] = [
    "{room}",
    "{device}",
    "{room} {device}",
    "THE {opening}",
    "THE {room} {opening}",
    "{colour} {please}",
    "{switch}",
    "{move}",
    "{way}",
    "{percent} PERCENT",
    "{number} DEGREES",
    "{number} {unit}",
    "{number}",
    "{digit}",
    "{hour} {day}",
    "{day}",
    "{genre}",
    "{genre} MUSIC",
    "THE {step} SONG",
    "{name}",
    "{name} AND {name}",
    "{place}",
    "THE {place} IN {city}",
    "{city}",
    "{fall}",
    "{ware}",
    "{ware} AND {ware}",
    "STOP",
    "SHOW ME",
    "CALL ME",
    "REMIND ME",
    "WAKE ME",
    "PLAY MUSIC",
]
"""What a device hears when it asks back. Words said alone also show where in the audio a word is."""

ANSWER_SHARE = 0.4


def vocabulary() -> list[str]:
    """All words that `draw_sentence` can say, sorted."""
    words = " ".join([*REQUESTS, *ANSWERS]).split()
    fixed = (word for word in words if not word.startswith("{"))
    filled = (word for choices in SLOTS.values() for choice in choices for word in choice.split())
    return sorted({*fixed, *filled})


def draw_sentence(rng: np.random.Generator) -> str:
    """One request or answer of 1 to 9 words."""
    templates = ANSWERS if rng.random() < ANSWER_SHARE else REQUESTS
    words = []
    for word in templates[rng.integers(len(templates))].split():
        choices = SLOTS[word.strip("{}")] if word.startswith("{") else [word]
        words += choices[rng.integers(len(choices))].split()
    return " ".join(words)
