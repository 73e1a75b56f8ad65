"""Bad input of many kinds: each gets a clear error and its exit code, and changes nothing."""

import json
import re
import shutil
import struct
from pathlib import Path

import pytest
from click.testing import CliRunner

from ollama_ft.cli.app import cli
from ollama_ft.core.catalog import open_catalog
from tests.rows import RECORDS

GOOD = [
    {"question": f"What is thing {n}?", "answer": f"Thing {n} is a {n}-fold."} for n in range(40)
]


def lines(rows):
    return "".join(json.dumps(row) + "\n" for row in rows)


@pytest.fixture(scope="module")
def made(tmp_path_factory, smollm2_gguf):
    """A home with a family `bot` on a real base: v0 is live."""
    path = tmp_path_factory.mktemp("made")
    run(path, "new", "bot", "--from", str(smollm2_gguf), code=0)
    return path


@pytest.fixture
def place(made, tmp_path):
    """A copy of that home, and files to put bad input in."""
    shutil.copytree(made, tmp_path / "home")
    return tmp_path


def run(home: Path, *arguments: str, code: int) -> str:
    command = ["--home", str(home), "--host", "embedded", "--progress", "none", *arguments]
    result = CliRunner().invoke(cli, command, catch_exceptions=False)
    assert result.exit_code == code, result.output
    return result.output


def state(home: Path) -> dict[str, object]:
    """All rows, and all files but those that any command touches."""
    passing = ("catalog.db", ".lock", ".log", "runtime.json")
    files = sorted(
        str(p.relative_to(home))
        for p in home.rglob("*")
        if p.is_file() and not any(part in p.name for part in passing)
    )
    db = open_catalog(home / "registry" / "catalog.db")
    rows = {record.table: list(db.table(record.table).rows) for record in RECORDS}
    db.close()
    return {"files": files, "rows": rows}


def gguf(version: int = 3, tensors: int = 0, keys: int = 0, tail: bytes = b"") -> bytes:
    return b"GGUF" + struct.pack("<IQQ", version, tensors, keys) + tail


FILES = {
    "good.jsonl": lines(GOOD).encode(),
    "empty.jsonl": b"",
    "few.jsonl": lines(GOOD[:3]).encode(),
    "not.jsonl": b"question,answer\nWhat?,This.\n",
    "half.jsonl": (lines(GOOD[:20]) + '{"question": "What is').encode(),
    "blank.jsonl": lines([*GOOD[:6], {"question": "And this?", "answer": "  "}]).encode(),
    "roles.jsonl": lines([{"messages": [{"role": "wizard", "content": "x"}, {"role": "assistant", "content": "y"}]}]).encode(),
    "asks.jsonl": lines([{"messages": [{"role": "user", "content": "x"}]}]).encode(),
    "mixed.jsonl": lines([*GOOD[:5], {"instruction": "Say", "output": "Said"}]).encode(),
    "latin1.jsonl": lines(GOOD).replace("What", "Größe").encode("latin-1"),
    "long.jsonl": lines([*GOOD, {"question": "long " * 3000, "answer": "yes"}]).encode(),
    "key.yaml": b"rank: 8\nepoch: 3\n",
    "type.yaml": b"learning_rate: quick\n",
    "cut.gguf": gguf(keys=5, tail=struct.pack("<Q", 20) + b"general."),
    "text.gguf": b"I am no weights at all, only words." * 9,
    "huge.gguf": gguf(tensors=2**60, keys=1),
    "empty.gguf": gguf(),
}  # fmt: skip

CASES = {
    "a data file that is not there": (["train", "--data", "gone.jsonl"], 1, r"gone\.jsonl does not exist"),
    "an empty data file": (["train", "--data", "empty.jsonl"], 2, r"empty\.jsonl"),
    "too few rows": (["train", "--data", "few.jsonl"], 4, r"\d"),
    "a file that is not JSON": (["train", "--data", "not.jsonl"], 2, r"not\.jsonl, row 1 is not JSON"),
    "a line cut short": (["train", "--data", "half.jsonl"], 2, r"row 21 is not JSON"),
    "an empty answer": (["train", "--data", "blank.jsonl"], 2, r"row 7"),
    "a role that there is not": (["train", "--data", "roles.jsonl"], 2, r"wizard"),
    "a conversation without an answer": (["train", "--data", "asks.jsonl"], 2, r"row 1"),
    "two formats in one file": (["train", "--data", "mixed.jsonl"], 2, r"row 6"),
    "another encoding": (["train", "--data", "latin1.jsonl"], 2, "not UTF-8"),
    "a row too long for the recipe": (["train", "--data", "long.jsonl"], 2, r"max_length"),
    "a format that there is not": (["train", "--data", "good.jsonl", "--format", "alpacca"], 2, r"alpacca.*\n.*alpaca"),
    "an unknown key in a recipe": (["train", "--data", "good.jsonl", "--recipe", "key.yaml"], 2, r"line 2: 'epoch'.*'epochs'"),
    "a wrong type in a recipe": (["train", "--data", "good.jsonl", "--recipe", "type.yaml"], 2, r"line 1: learning_rate"),
    "a recipe that there is not": (["train", "--data", "good.jsonl", "--recipe", "fast"], 1, r"no recipe 'fast'"),
    "--set without a value": (["train", "--data", "good.jsonl", "--set", "rank"], 2, r"not KEY=VALUE"),
    "--set on an unknown key": (["train", "--data", "good.jsonl", "--set", "ranks=3"], 2, r"'ranks'.*'rank'"),
    "modules that the base does not have": (["train", "--data", "good.jsonl", "--set", "target_modules=[wq]"], 2, r"wq"),
    "no data at all": (["train"], 1, r"no data yet"),
    "a base that is nowhere": (["new", "x", "--from", "127.0.0.1:9/no/such:thing"], 1, r"could not be had"),
    "a base with an impossible name": (["new", "x", "--from", "a//b::c"], 2, r"a//b::c"),
    "a family with an impossible name": (["new", "Bot Two", "--from", "smollm2:135m"], 2, r"'Bot Two' cannot be"),
    "a family that stands on other ground": (["new", "bot", "--from", "GGUF", "--system", "Be rude."], 1, r"another system"),
    "a GGUF that is cut short": (["new", "x", "--from", "cut.gguf"], 2, r"cut\.gguf"),
    "a file that is no GGUF": (["new", "x", "--from", "text.gguf"], 2, r"GGUF"),
    "a GGUF that lies about its size": (["new", "x", "--from", "huge.gguf"], 2, r"huge\.gguf"),
    "a GGUF with nothing in it": (["new", "x", "--from", "empty.gguf"], 2, r"no tensor"),
    "a runtime that does not answer": (["--host", "127.0.0.1:9", "eval", "v0"], 5, r"127\.0\.0\.1:9"),
    "a family that there is not": (["list", "cat"], 1, r"no family 'cat'. Known: bot"),
    "a version that there is not": (["show", "v9"], 1, r"no version v9"),
    "what is no reference": (["show", "bot:v"], 2, r"not a reference"),
    "a digest of nothing": (["diff", "v0", "abcdef012"], 1, r"begins with"),
    "nothing to roll back to": (["rollback"], 1, r"no earlier live version"),
    "a promotion of what is not there": (["promote", "v9"], 1, r"no version v9"),
    "no question": (["run", ""], 2, r"no question"),
    "a command with a slip": (["rolback"], 2, r"Did you mean 'rollback'"),
    "an option that there is not": (["list", "--jsn"], 2, r"No such option"),
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_bad_input_gets_a_clear_error_and_changes_nothing(case, place, smollm2_gguf, monkeypatch):
    arguments, code, message = CASES[case]
    monkeypatch.chdir(place)
    for name in {name for name in arguments if name in FILES}:
        (place / name).write_bytes(FILES[name])
    before = state(place / "home")
    arguments = [str(smollm2_gguf) if a == "GGUF" else a for a in arguments]
    output = run(place / "home", *arguments, code=code)
    assert re.search(message, output), output
    assert "Traceback" not in output
    assert state(place / "home") == before
