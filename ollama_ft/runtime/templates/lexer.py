"""Cut a Go template into tokens.

Outside of `{{` and `}}` everything is text; `{{- ` and ` -}}` also drop the white space of the text
beside them (space, tab, carriage return, newline; no other Unicode space). Inside, white space
separates tokens and is a token itself. Comments vanish. The first thing that is no token becomes an
ERROR token, the last one.
"""

import re
from dataclasses import dataclass
from enum import Enum, auto

from ollama_ft.runtime.templates.literals import quote


class Kind(Enum):
    """What a token is. Keywords come after KEYWORD, as the messages tell them from other tokens."""

    ERROR = auto()
    BOOL = auto()
    CHAR = auto()
    CHARACTER = auto()
    COMPLEX = auto()
    ASSIGN = auto()
    DECLARE = auto()
    EOF = auto()
    FIELD = auto()
    IDENTIFIER = auto()
    LEFT_DELIM = auto()
    LEFT_PAREN = auto()
    NUMBER = auto()
    PIPE = auto()
    RAW_STRING = auto()
    RIGHT_DELIM = auto()
    RIGHT_PAREN = auto()
    SPACE = auto()
    STRING = auto()
    TEXT = auto()
    VARIABLE = auto()
    BLOCK = "block"
    BREAK = "break"
    CONTINUE = "continue"
    DOT = "."
    DEFINE = "define"
    ELSE = "else"
    END = "end"
    IF = "if"
    NIL = "nil"
    RANGE = "range"
    TEMPLATE = "template"
    WITH = "with"


_KEYWORDS = {kind.value: kind for kind in Kind if isinstance(kind.value, str) and kind.value != "."}


@dataclass(frozen=True, slots=True)
class Token:
    """One token: `position` counts characters from the start of the template."""

    kind: Kind
    position: int
    value: str


_SPACES = " \t\r\n"
_SPACE = re.compile(r"[ \t\r\n]+")
_WORD = re.compile(r"\w*")  # narrowed by _word_end: \w also takes digits that are no decimals
_NUMBER = re.compile(
    r"[+-]?(?:0[xX][0-9a-fA-F_]*\.?[0-9a-fA-F_]*(?:[pP][+-]?[0-9_]*)?|0[oO][0-7_]*\.?[0-7_]*"
    r"|0[bB][01_]*\.?[01_]*|[0-9_]*\.?[0-9_]*(?:[eE][+-]?[0-9_]*)?)i?"
)
_QUOTED = {
    '"': (re.compile(r'"(?:[^"\\\n]|\\[^\n])*"'), Kind.STRING, "unterminated quoted string"),
    "'": (
        re.compile(r"'(?:[^'\\\n]|\\[^\n])*'"),
        Kind.CHARACTER,
        "unterminated character constant",
    ),
    "`": (re.compile(r"`[^`]*`"), Kind.RAW_STRING, "unterminated raw quoted string"),
}
_SINGLE = {"=": Kind.ASSIGN, "|": Kind.PIPE}


def tokens(text: str) -> list[Token]:
    """Return the tokens of `text`; the last one is EOF or ERROR."""
    return _Lexer(text).run()


class _Lexer:
    def __init__(self, text: str) -> None:
        self.text = text
        self.at = 0
        self.depth = 0  # of parentheses, within one action
        self.found: list[Token] = []

    def run(self) -> list[Token]:
        while not self.found or self.found[-1].kind not in (Kind.EOF, Kind.ERROR):
            self._text()
        return self.found

    def _emit(self, kind: Kind, end: int) -> None:
        self.found.append(Token(kind, self.at, self.text[self.at : end]))
        self.at = end

    def _fail(self, message: str, start: int | None = None) -> None:
        self.found.append(Token(Kind.ERROR, self.at if start is None else start, message))

    def _text(self) -> None:
        """Take text up to the next action, then the action."""
        start = self.text.find("{{", self.at)
        if start < 0:
            if self.at < len(self.text):
                self._emit(Kind.TEXT, len(self.text))
            self._emit(Kind.EOF, self.at)
            return
        trimmed = self._trims_left(start + 2)
        end = start if not trimmed else self.at + len(self.text[self.at : start].rstrip(_SPACES))
        if end > self.at:
            self._emit(Kind.TEXT, end)
        self.at = start
        if self.text.startswith("/*", start + (4 if trimmed else 2)):
            self._comment(start + (4 if trimmed else 2))
            return
        self._emit(Kind.LEFT_DELIM, start + 2)
        self.at += 2 if trimmed else 0
        self._action()

    def _trims_left(self, at: int) -> bool:
        return self.text[at : at + 1] == "-" and self.text[at + 1 : at + 2] in tuple(_SPACES)

    def _right_delim(self, at: int) -> tuple[bool, bool]:
        """Whether `}}` stands at `at`, and whether a trim marker precedes it there."""
        if self.text[at : at + 1] in tuple(_SPACES) and self.text.startswith("-}}", at + 1):
            return True, True
        return self.text.startswith("}}", at), False

    def _comment(self, start: int) -> None:
        end = self.text.find("*/", start + 2)
        if end < 0:
            return self._fail("unclosed comment", start)
        found, trimmed = self._right_delim(end + 2)
        if not found:
            return self._fail("comment ends before closing delimiter", start)
        self._after_delim(end + 4 + (2 if trimmed else 0), trimmed)
        return None

    def _after_delim(self, at: int, trimmed: bool) -> None:
        spaces = _SPACE.match(self.text, at) if trimmed else None
        self.at = spaces.end() if spaces else at

    def _action(self) -> None:
        """Take tokens up to and with the closing delimiter."""
        self.depth = 0
        while self.found[-1].kind is not Kind.ERROR:
            closing, trimmed = self._right_delim(self.at)
            if closing and self.depth:
                return self._fail("unclosed left paren")
            if closing:
                self.at += 2 if trimmed else 0
                self._emit(Kind.RIGHT_DELIM, self.at + 2)
                return self._after_delim(self.at, trimmed)
            self._token()
        return None

    def _token(self) -> None:
        char = self.text[self.at : self.at + 1]
        if not char:
            self._fail("unclosed action")
        elif char in _SPACES:
            self._space()
        elif char in _SINGLE:
            self._emit(_SINGLE[char], self.at + 1)
        elif char in _QUOTED:
            self._quoted(char)
        elif char in "()":
            self._paren(char)
        else:
            self._operand(char)

    def _operand(self, char: str) -> None:
        following = self.text[self.at + 1 : self.at + 2]
        if char == ":":
            if following != "=":
                return self._fail("expected :=")
            return self._emit(Kind.DECLARE, self.at + 2)
        if char == "$":
            return self._named(Kind.VARIABLE)
        if char == "." and following and following not in "0123456789":
            return self._named(Kind.FIELD)
        if char in "+-.0123456789":
            return self._number()
        if _is_word(char):
            return self._named(Kind.IDENTIFIER)
        if char.isascii() and char.isprintable():
            return self._emit(Kind.CHAR, self.at + 1)
        return self._fail(f"unrecognized character in action: {_character(char)}")

    def _space(self) -> None:
        found = _SPACE.match(self.text, self.at)
        assert found is not None
        # The last space belongs to the trim marker where one follows; _action sees to it.
        marked = self._right_delim(found.end() - 1) == (True, True)
        self._emit(Kind.SPACE, found.end() - 1 if marked else found.end())

    def _quoted(self, char: str) -> None:
        pattern, kind, message = _QUOTED[char]
        found = pattern.match(self.text, self.at)
        if found is None:
            return self._fail(message)
        return self._emit(kind, found.end())

    def _paren(self, char: str) -> None:
        self.depth += 1 if char == "(" else -1
        if self.depth < 0:
            return self._fail("unexpected right paren")
        return self._emit(Kind.LEFT_PAREN if char == "(" else Kind.RIGHT_PAREN, self.at + 1)

    def _number(self) -> None:
        end, good = self._scan_number(self.at)
        kind = Kind.NUMBER
        if good and self.text[end : end + 1] in ("+", "-"):
            end, good = self._scan_number(end)
            good = good and self.text[end - 1] == "i"
            kind = Kind.COMPLEX
        if not good:
            return self._fail(f"bad number syntax: {quote(self.text[self.at : end])}")
        return self._emit(kind, end)

    def _scan_number(self, at: int) -> tuple[int, bool]:
        found = _NUMBER.match(self.text, at)
        assert found is not None
        end = found.end()
        bad = end < len(self.text) and _is_word(self.text[end])
        return (end + 1, False) if bad else (end, True)

    def _named(self, kind: Kind) -> None:
        """A field, a variable or a word: letters, digits and _ after its first character."""
        end = self._word_end(self.at + (0 if kind is Kind.IDENTIFIER else 1))
        if not self._ends_name(end):
            return self._fail(f"bad character {_character(self.text[end])}")
        word = self.text[self.at : end]
        if word == ".":
            kind = Kind.DOT
        elif kind is Kind.IDENTIFIER:
            kind = Kind.BOOL if word in ("true", "false") else _KEYWORDS.get(word, kind)
        return self._emit(kind, end)

    def _word_end(self, at: int) -> int:
        found = _WORD.match(self.text, at)
        assert found is not None
        for place in range(at, found.end()):
            if not _is_word(self.text[place]):
                return place
        return found.end()

    def _ends_name(self, at: int) -> bool:
        char = self.text[at : at + 1]
        return not char or char in _SPACES + ".,|:()" or self.text.startswith("}}", at)


def _is_word(char: str) -> bool:
    return char == "_" or char.isalpha() or char.isdecimal()


def _character(char: str) -> str:
    shown = f" '{char}'" if char.isprintable() else ""
    return f"U+{ord(char):04X}{shown}"
