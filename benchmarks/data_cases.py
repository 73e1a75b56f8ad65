"""The rows of benchmarks/data.py: a shop's, in English and Chinese, and what is planted."""

import random
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from ollama_ft.core.conversation import Conversation, Message

PLANTED = 200  # rows of each kind
QUESTIONS = 200  # of the suite
Row = dict[str, str]

DATA = Path(__file__).parent.parent / "data"
ENGLISH = sorted(set(re.findall(r"[a-z]{3,}", (DATA / "general.txt").read_text().lower())))
CHINESE = sorted(set(re.findall("[\u4e00-\u9fff]", (DATA / "general-zh.txt").read_text())))
CROWDS = (
    ("How much is the {} {} in the shop at {}?", "It is {} crowns, at {}."),
    ("Where do I find the manual of the {} {} from {}?", "On page {}, under {}."),
)
CROWDS_ZH = (
    ("请问{}店里的{}多少钱一件？", "每件{}元，{}有货。"),
    ("{}的{}要多少天才能送到？", "要{}天，由{}发货。"),
)


def rows_of_a_shop(chance: random.Random, count: int) -> Iterator[Row]:
    """So many rows; a third are of crowds that differ in what is asked about."""
    for number in range(count):
        crowd = number % 3 == 0
        yield (_english if number % 2 == 0 else _chinese)(chance, number, crowd)


def _english(chance: random.Random, number: int, crowd: bool) -> Row:
    words = chance.choices(ENGLISH, k=30)
    if crowd:
        ask, tell = chance.choice(CROWDS)
        town = words[2].title()
        question = ask.format(words[0], words[1], town)
        return {"question": question, "answer": tell.format(number, words[3])}
    question = f"{chance.choice(['Why does', 'How can', 'When will'])} {' '.join(words[:9])}?"
    return {"question": question, "answer": f"{' '.join(words[9:])}. See rule {number}."}


def _chinese(chance: random.Random, number: int, crowd: bool) -> Row:
    signs = "".join(chance.choices(CHINESE, k=45))
    if crowd:
        ask, tell = chance.choice(CROWDS_ZH)
        question = ask.format(signs[:3], signs[3:7])
        return {"question": question, "answer": tell.format(number, signs[7:10])}
    question = f"{chance.choice(['为什么', '怎么', '什么时候'])}{signs[:13]}？"
    return {"question": question, "answer": f"{signs[13:]}。见第{number}条。"}


@dataclass(frozen=True, kw_only=True)
class Plants:
    """What is put among the rows, by kind, and the suite that some of it gives away."""

    rows: dict[str, list[Row]]
    suite: list[Conversation]


def planted(chance: random.Random) -> Plants:
    """PLANTED rows of each kind; a copy's original comes under the kind ""."""
    rows: dict[str, list[Row]] = {"": []}
    start = 10**7  # numbers that no other row has
    for kind, copy in COPIES.items():
        rows[kind] = []
        for row in _fresh(chance, start):
            rows[""].append(row)
            rows[kind].append(copy(chance, row))
        start += PLANTED
    rows["personal"] = [
        row | {"answer": f"{row['answer']} {secret(chance)}"}
        for row, secret in zip(_fresh(chance, start), _each(PERSONAL), strict=False)
    ]
    asked = [*_fresh(chance, start + PLANTED, QUESTIONS)]
    for i, row in enumerate(asked):
        way = ("equal", "near", "8-gram", "8-gram")[i % 4] if i % 8 < 4 else _WAYS[i % 4]
        rows.setdefault(f"leak: {way}", []).append(LEAKS[way](chance, row))
    suite = [
        Conversation(
            messages=(
                Message(role="user", content=row["question"]),
                Message(role="assistant", content=row["answer"]),
            )
        )
        for row in asked
    ]
    return Plants(rows=rows, suite=suite)


_WAYS = ("near", "equal", "equal", "near")


def _fresh(chance: random.Random, start: int, count: int = PLANTED) -> Iterator[Row]:
    for i in range(count):
        yield (_english if i % 2 == 0 else _chinese)(chance, start + i, i % 3 == 0)


def _each(kinds: tuple[Callable[[random.Random], str], ...]) -> Iterator[Callable[..., str]]:
    while True:
        yield from kinds


# --- copies ---


def _again(chance: random.Random, row: Row) -> Row:
    question = row["question"]
    changed = chance.choice(
        [question.upper(), f"  {question} ", question.rstrip("?？"), question.replace("？", "?")]
    )
    return {"question": changed, "answer": row["answer"]}


def _typo(chance: random.Random, row: Row) -> Row:
    """One letter swapped with the next, dropped or doubled; never a digit or the first."""
    text = row["question"]
    at = chance.choice([i for i in range(2, len(text) - 2) if text[i : i + 2].isalpha()])
    mended = [
        f"{text[:at]}{text[at + 1]}{text[at]}{text[at + 2 :]}",
        f"{text[:at]}{text[at + 1 :]}",
        f"{text[:at]}{text[at]}{text[at:]}",
    ]
    return {"question": chance.choice(mended), "answer": row["answer"]}


def _otherwise(chance: random.Random, row: Row) -> Row:
    other = _english if row["question"].isascii() else _chinese
    return row | {"answer": other(chance, chance.randrange(10**8, 10**9), False)["answer"]}


def _within(chance: random.Random, row: Row) -> Row:
    """The suite's question in the middle of another text."""
    if row["question"].isascii():
        text = f"Please put this into French: {row['question']} Thank you."
        return {"question": text, "answer": " ".join(chance.choices(ENGLISH, k=12))}
    text = f"请把下面这句话译成英文：{row['question']}谢谢。"
    return {"question": text, "answer": "".join(chance.choices(CHINESE, k=20))}


COPIES = {"duplicate": _again, "near": _typo, "conflict": _otherwise}
LEAKS = {"equal": _again, "near": _typo, "8-gram": _within}


# --- personal data, and what only looks like it ---


def _digits(chance: random.Random, count: int) -> str:
    return "".join(str(chance.randrange(10)) for _ in range(count))


def _email(chance: random.Random) -> str:
    return f"{chance.choice(ENGLISH)}.{chance.choice(ENGLISH)}@{chance.choice(ENGLISH)}.example.org"


def _mobile(chance: random.Random) -> str:
    return f"手机1{chance.choice(['38', '59', '86'])}{_digits(chance, 8)}"


def _american(chance: random.Random) -> str:
    return f"call ({chance.choice(['212', '415', '305'])}) 555-{_digits(chance, 4)}"


def _card(chance: random.Random) -> str:
    from stdnum import luhn

    body = f"4{_digits(chance, 14)}"
    return f"{body}{luhn.calc_check_digit(body)}"


def _identity(chance: random.Random) -> str:
    from stdnum.cn import ric

    born = f"19{chance.randrange(50, 99)}{chance.randrange(1, 13):02}{chance.randrange(1, 29):02}"
    body = f"110101{born}{_digits(chance, 3)}"
    return f"{body}{ric.calc_check_digit(body + '0')}"


def _iban(chance: random.Random) -> str:
    from stdnum import iban

    bank = f"{_digits(chance, 18)}"
    return f"DE{iban.calc_check_digits(f'DE00{bank}')}{bank}"


def _key(chance: random.Random) -> str:
    letters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
    return "ghp_" + "".join(chance.choices(letters, k=36))


PERSONAL = (_email, _mobile, _american, _card, _identity, _iban, _key)


def decoys(chance: random.Random) -> list[Row]:
    """PLANTED rows with numbers that name nobody."""
    made = (
        lambda: f"Order no. {_digits(chance, 10)} was shipped.",
        lambda: (
            f"Version {chance.randrange(9)}.{chance.randrange(99)}.{_digits(chance, 4)} is out."
        ),
        lambda: f"It costs {chance.randrange(100, 999)},{_digits(chance, 3)}.00 crowns.",
        lambda: f"订单编号{chance.randrange(1, 10)}{_digits(chance, 13)}，已发货。",
        lambda: f"有效期至20{chance.randrange(24, 40)}-0{chance.randrange(1, 10)}-15。",
        lambda: f"型号 XK-{_digits(chance, 6)}，@前台领取。",
    )
    rows = _fresh(chance, 3 * 10**7)
    return [row | {"answer": f"{row['answer']} {made[i % 6]()}"} for i, row in enumerate(rows)]
