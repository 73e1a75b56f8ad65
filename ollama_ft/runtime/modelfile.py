"""Modelfiles: the whole grammar of Ollama's own parser, read and printed.

A file is a list of instructions, one word and a value each. The value is the rest of the line, or,
between one or three quotation marks, the lines up to one that ends in as many. There are no
escapes; a `#` starts a comment only where an instruction could start. What is printed here reads
back the same, here and in Ollama, as far as that quoting can carry it: `Modelfile.losses` names the
values that it cannot, and the characters that Ollama would drop.
"""

import math
import re
import unicodedata
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from ollama_ft.core.errors import BadInput

# Ollama's Options (api/types.go), which are also the names of PARAMETER.
PARAMETERS: Mapping[str, type] = {
    "num_keep": int,
    "seed": int,
    "num_predict": int,
    "top_k": int,
    "top_p": float,
    "min_p": float,
    "typical_p": float,
    "repeat_last_n": int,
    "temperature": float,
    "repeat_penalty": float,
    "presence_penalty": float,
    "frequency_penalty": float,
    "stop": list,
    "num_ctx": int,
    "num_batch": int,
    "num_gpu": int,
    "main_gpu": int,
    "use_mmap": bool,
    "num_thread": int,
    "draft_num_predict": int,
}
DEPRECATED = frozenset(
    [
        "mirostat",
        "mirostat_tau",
        "mirostat_eta",
        "penalize_newline",
        "low_vram",
        "f16_kv",
        "logits_all",
        "vocab_only",
        "use_mlock",
    ]
)
ROLES = ("system", "user", "assistant")
_SINGLE = ("template", "system", "draft", "renderer", "parser", "requires")
_COMMANDS = ("from", "parameter", "adapter", "license", "message", *_SINGLE)
_SEMVER = re.compile(r"v?\d+(\.\d+){0,2}([-+][0-9A-Za-z.+-]+)?", re.ASCII)
_NUMBER = re.compile(r"[-+]?[0-9.]+([eE][-+]?[0-9]+)?", re.ASCII)
_LARGEST = 2**63  # Ollama's whole numbers have 64 bits
_WORD = re.compile(r"[A-Za-z]+", re.ASCII)
_NAME = re.compile(r"[A-Za-z0-9_]+", re.ASCII)
_SPACES = " \t"
_NEWLINES = "\r\n"
_LINE_END = re.compile(r"[\r\n]|\Z")
_QUOTES = ('"""', '"')


@dataclass(frozen=True, kw_only=True)
class Turn:
    """One MESSAGE."""

    role: str
    content: str


@dataclass(frozen=True, kw_only=True)
class Modelfile:
    """What a Modelfile says. Repeated LICENSE, MESSAGE, FROM and PARAMETER stop add up; else the
    last wins."""

    sources: tuple[str, ...]  # FROM: a model's name, or files
    adapters: tuple[str, ...] = ()  # Ollama's own parser keeps the last one only
    template: str | None = None
    system: str | None = None
    parameters: Mapping[str, object] = field(default_factory=dict)  # typed; stop is a list
    licenses: tuple[str, ...] = ()
    messages: tuple[Turn, ...] = ()
    draft: str | None = None
    renderer: str | None = None
    parser: str | None = None
    requires: str | None = None
    passed_over: tuple[str, ...] = ()  # deprecated parameters, which Ollama ignores too

    def text(self, about: str = "") -> str:
        """The file's text. Where `losses` is empty it reads back as this very Modelfile.

        `about` is a line of comment for its head, where the losses are then told, too.
        """
        losses = [f"Ollama's own parser would change this. {loss}" for loss in self.losses()]
        comments = "".join(f"# {line}\n" for line in (about, *losses) if about)
        return comments + "".join(f"{head} {quoted(value)}\n" for head, value in self._lines())

    def losses(self) -> tuple[str, ...]:
        """In words: what Ollama's parser would not read back from `text` as it stands here."""
        found = []
        for head, value in self._lines():
            if _read_back(head, quoted(value)) != value:
                found.append(
                    f"{head}: the text does not fit between quotes and would be cut or refused."
                )
            found += [f"{head}: {note}" for note in unprintable(value)]
        return tuple(found)

    def _lines(self) -> Iterator[tuple[str, str]]:
        """Each instruction with its value, in the order in which `ollama show` prints them."""
        yield from (("FROM", source) for source in self.sources)
        yield from (("ADAPTER", path) for path in self.adapters)
        for word in _SINGLE:
            value = getattr(self, word)
            if value is not None:
                yield word.upper(), value
        for name, value in self.parameters.items():
            values = value if isinstance(value, list) else [value]
            yield from ((f"PARAMETER {name}", _printed(item)) for item in values)
        yield from (("LICENSE", text) for text in self.licenses)
        yield from ((f"MESSAGE {turn.role}", turn.content) for turn in self.messages)


def parse_modelfile(text: str) -> Modelfile:
    """Read a Modelfile. Unprintable characters are kept, though Ollama's parser drops them; see
    `unprintable`.

    Raises BadInput, with the line's number, for what Ollama's parser refuses.
    """
    known: dict[str, list[tuple[str, str]]] = {command: [] for command in _COMMANDS}
    for command, detail, value, line in _Reader(text.removeprefix("\ufeff")).instructions():
        known[command].append((detail, value))
        _check(command, detail, value, line)
    if not known["from"]:
        raise BadInput("The Modelfile has no FROM line.", mend="start it with: FROM <model>")
    last = {word: known[word][-1][1] if known[word] else None for word in _SINGLE}
    return Modelfile(
        sources=_values(known["from"]),
        adapters=_values(known["adapter"]),
        parameters=_parameters(known["parameter"]),
        licenses=_values(known["license"]),
        messages=tuple(Turn(role=role, content=content) for role, content in known["message"]),
        passed_over=tuple(dict.fromkeys(n for n, _ in known["parameter"] if n in DEPRECATED)),
        **last,
    )


def unprintable(text: str) -> tuple[str, ...]:
    """The characters of a value that Ollama's Modelfile parser drops without a word, each named
    once.

    Go counts letters, marks, numbers, punctuation, symbols and the ASCII space as printable
    (strconv.IsPrint); Ollama keeps spaces, tabs and newlines besides.
    """
    lost = {c: text.count(c) for c in dict.fromkeys(text) if not _is_kept(c)}
    return tuple(
        f"U+{ord(c):04X} {unicodedata.name(c, 'without a name')} ({count}×) is lost in a Modelfile"
        for c, count in lost.items()
    )


def quoted(value: str) -> str:
    """The value as it can stand in a Modelfile: bare where that reads back, else in quotes."""
    forms = (value, f'"{value}"', f'"""{value}"""')
    return next((form for form in forms if _read_back("SYSTEM", form) == value), forms[-1])


class _Reader:
    """Cuts a Modelfile's text into instructions."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.at = 0
        self._counted = (0, 1)  # a place in the text, and the number of its line

    def instructions(self) -> Iterator[tuple[str, str, str, int]]:
        """Command, its detail (a parameter's name, a message's role), its value, and its line's
        number."""
        while self._to_next():
            line = self._line()
            command = self._word(_WORD, "command must be one of " + ", ".join(_COMMANDS)).lower()
            if command not in _COMMANDS:
                raise self._wrong("command must be one of " + ", ".join(_COMMANDS), line)
            detail = ""
            if command in ("parameter", "message"):
                detail = self._word(_NAME, f"{command.upper()} needs a name and a value")
            yield command, detail, self._value(line), line

    def _to_next(self) -> bool:
        """Go to where an instruction starts, over empty lines and comments; False at the end."""
        while self.at < len(self.text):
            if self.text[self.at] == "#":
                self.at = self._line_end()
            elif self.text[self.at] in _SPACES + _NEWLINES:
                self.at += 1
            else:
                return True
        return False

    def _word(self, grammar: re.Pattern[str], wanted: str) -> str:
        """A word that one space or tab ends."""
        while self.text[self.at : self.at + 1] in tuple(_SPACES):
            self.at += 1
        word = grammar.match(self.text, self.at)
        end = word.end() if word else self.at
        if word is None or self.text[end : end + 1] not in tuple(_SPACES):
            raise self._wrong(wanted, self._line())
        self.at = end + 1
        return word[0]

    def _value(self, line: int) -> str:
        """The rest of the line, or of as many lines as it takes until the quotes are closed."""
        start, end = self._rest_of_line()
        quotes = next((q for q in _QUOTES if self.text.startswith(q, start, end)), "")
        start += len(quotes)
        while not self.text.endswith(quotes, start, max(start, end)):
            if self.at == len(self.text):
                raise self._wrong("unexpected EOF: quotes are opened and not closed", line)
            self.at += 1
            _, end = self._rest_of_line()
        return self.text[start : end - len(quotes)]

    def _rest_of_line(self) -> tuple[int, int]:
        """Go to the line's end; where the rest of it begins and ends without what is trimmed."""
        start = self.at
        self.at = self._line_end()
        return _trimmed(self.text, start, self.at)

    def _line_end(self) -> int:
        found = _LINE_END.search(self.text, self.at)
        return found.start() if found else len(self.text)

    def _line(self) -> int:
        place, line = self._counted
        line += len(re.findall(r"\r\n|\r|\n", self.text[place : self.at]))
        self._counted = (self.at, line)
        return line

    def _wrong(self, message: str, line: int) -> BadInput:
        return BadInput(f"(line {line}): {message}")


def _trimmed(text: str, start: int, end: int) -> tuple[int, int]:
    """The range without white space at its ends, and without what Ollama drops before it looks
    for quotes."""
    while start < end and (text[start].isspace() or not _is_kept(text[start])):
        start += 1
    while end > start and (text[end - 1].isspace() or not _is_kept(text[end - 1])):
        end -= 1
    return start, end


def _read_back(head: str, form: str) -> str | None:
    """What the parser makes of this form of a value; None if it refuses, or reads more than one
    value."""
    try:
        found = list(_Reader(f"{head} {form}\n").instructions())
    except BadInput:
        return None
    return found[0][2] if len(found) == 1 else None


def _check(command: str, detail: str, value: str, line: int) -> None:
    if command == "message" and detail not in ROLES:
        raise BadInput(
            f'(line {line}): message role must be one of "system", "user", or "assistant"'
        )
    if command == "requires" and not _SEMVER.fullmatch(value):
        raise BadInput(f"(line {line}): REQUIRES must be a version, like 0.14.0; it is {value!r}")


def _values(found: list[tuple[str, str]]) -> tuple[str, ...]:
    return tuple(value for _, value in found)


def _parameters(found: list[tuple[str, str]]) -> dict[str, object]:
    values: dict[str, object] = {}
    for name, text in found:
        if name in DEPRECATED:
            continue
        if PARAMETERS.get(name) is list:
            values[name] = [*_as_list(values.get(name)), text]
        else:
            values[name] = typed(name, text)
    return values


def _as_list(value: object) -> list[object]:
    return list(value) if isinstance(value, list) else []


def typed(name: str, text: str) -> object:
    """The value of a parameter that is not `stop`. Raises BadInput for a name or a value that
    Ollama has not.
    """
    if name not in PARAMETERS:
        raise BadInput(
            f"There is no PARAMETER {name!r:.60}. There are: {', '.join(PARAMETERS)}.",
        )
    kind = PARAMETERS[name]
    try:
        if kind is bool:
            return {"true": True, "1": True, "t": True, "false": False, "0": False, "f": False}[
                text.lower()
            ]
        if not _NUMBER.fullmatch(text):
            raise ValueError(text)
        number = kind(text)
        if not math.isfinite(number) or (kind is int and not -_LARGEST <= number < _LARGEST):
            raise ValueError(text)
        return number
    except (KeyError, ValueError, OverflowError) as error:
        wanted = {int: "a whole number", float: "a number", bool: "true or false"}[kind]
        raise BadInput(f"PARAMETER {name} must be {wanted}; it is {text!r:.60}.") from error


def _printed(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value)


def _is_kept(character: str) -> bool:
    return character in " \t\r\n" or unicodedata.category(character)[0] in "LMNPS"
