"""Typing errors as people make them, for questions that are written in a hurry.

The kinds of error are those that Damerau (1964) found to be four in five of all: a letter left
out, one too many, two swapped, and a wrong one, here a neighbour on the keyboard. In Chinese two
characters are swapped, or one is left out or doubled. Digits stay: another number is another
question.
"""

import random
import re

_KEYBOARD = ("qwertyuiop", "asdfghjkl", "zxcvbnm")
_LETTERS = re.compile(r"[^\W\d_]{2,}")
_PER = 12  # letters for one error, at least one in each text


def with_typos(text: str, chance: random.Random) -> str:
    """The text with one error for about _PER letters; itself if it has no two letters together."""
    count = max(1, sum(letter.isalpha() for letter in text) // _PER)
    for _ in range(count):
        text = _with_one(text, chance)
    return text


def _with_one(text: str, chance: random.Random) -> str:
    # Not the first letter of a word: few people get that one wrong, and it would be hard to read.
    places = [at for word in _LETTERS.finditer(text) for at in range(*word.span()) if at]
    if not places:
        return text
    at = chance.choice(places)
    letter, before = text[at], text[at - 1]
    errors = ["", letter * 2]
    if before.isalpha():
        errors.append(f"\0{letter}{before}")  # in the place of both
    if beside := _beside(letter):
        errors.append(chance.choice(beside))
    error = chance.choice(errors)
    if error.startswith("\0"):
        return text[: at - 1] + error[1:] + text[at + 1 :]
    return text[:at] + error + text[at + 1 :]


def _beside(letter: str) -> str:
    for row in _KEYBOARD:
        if (at := row.find(letter)) >= 0:
            return row[max(0, at - 1) : at] + row[at + 1 : at + 2]
    return ""
