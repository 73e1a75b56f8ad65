"""Step through the tokens of a template, and fail as Go's parser does.

A message reads "template: :LINE: what is wrong"; the line is that of the last token that was looked
at.
"""

from typing import NoReturn

from ollama_ft.core.errors import BadInput
from ollama_ft.runtime.templates.lexer import Kind, Token, tokens
from ollama_ft.runtime.templates.literals import quote

MAX_DEPTH = 100  # of blocks, parentheses and else-ifs within each other


class Cursor:
    """A place among the tokens of `text`; stepping back is free."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.tokens = tokens(text)
        self.at = 0
        self.read = 0  # how many tokens were ever looked at
        self.depth = 0
        self.action_start: Token | None = None

    def next(self) -> Token:
        """Step over one token and return it; the last one for ever."""
        token = self.tokens[min(self.at, len(self.tokens) - 1)]
        self.at += 1
        self.read = max(self.read, self.at)
        return token

    def peek(self) -> Token:
        """Return the next token without stepping over it."""
        token = self.next()
        self.at -= 1
        return token

    def next_word(self) -> Token:
        """The next token that is not white space."""
        token = self.next()
        while token.kind is Kind.SPACE:
            token = self.next()
        return token

    def peek_word(self) -> Token:
        """Step over white space and return the token after it."""
        token = self.next_word()
        self.at -= 1
        return token

    def expect(self, kinds: tuple[Kind, ...], context: str) -> Token:
        """Step over a token that must be of one of `kinds`."""
        token = self.next_word()
        if token.kind not in kinds:
            self.unexpected(token, context)
        return token

    def line(self, token: Token) -> int:
        """Return the line on which a token starts, from 1."""
        return self.text.count("\n", 0, token.position) + 1

    def fail(self, message: str) -> NoReturn:
        """Raise BadInput with the line."""
        last = self.tokens[min(max(self.read, 1), len(self.tokens)) - 1]
        raise BadInput(f"template: :{self.line(last)}: {message}")

    def unexpected(self, token: Token, context: str) -> NoReturn:
        """Raise BadInput for a token out of place, or for what the lexer could not read."""
        if token.kind is not Kind.ERROR:
            self.fail(f"unexpected {_shown(token)} in {context}")
        extra = ""
        start = self.action_start
        if start is not None and self.line(start) != self.line(token):
            extra = f" in action started at :{self.line(start)}"
            if token.value.endswith(" action"):
                extra = extra.removeprefix(" in action")
        self.fail(token.value + extra)

    def deeper(self) -> None:
        """Count one more level; the caller takes it off again."""
        self.depth += 1
        if self.depth > MAX_DEPTH:
            self.fail(f"nested more than {MAX_DEPTH} levels deep")


def _shown(token: Token) -> str:
    if token.kind is Kind.EOF:
        return "EOF"
    if isinstance(token.kind.value, str):
        return f"<{token.value}>"
    short = quote(token.value[:10]) + "..." if len(token.value) > 10 else quote(token.value)
    return short
