"""Go's literals: strings and characters in quotes, numbers whose kind follows from their look.

A Go string is bytes. Here it is a `str` in which a byte that is not UTF-8 stands as the lone
surrogate that Python's `surrogateescape` gives it; `as_text` turns those into U+FFFD at the very
end.
"""

import re
from dataclasses import dataclass

_SIMPLE = {"a": "\a", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v", "\\": "\\"}
_SHORT = {value: "\\" + key for key, value in _SIMPLE.items()}
_ESCAPE = re.compile(
    r"\\(?:(?P<simple>[abfnrtv\\'\"])|x(?P<byte>[0-9a-fA-F]{2})|(?P<octal>[0-7]{3})"
    r"|u(?P<short>[0-9a-fA-F]{4})|U(?P<long>[0-9a-fA-F]{8})|(?P<bad>[\s\S]?))"
)
_UNSAFE = re.compile(r"[^ !#-&(-\[\]-~]")
_INTEGER = re.compile(
    r"[+-]?(?:0[xX](?:_?[0-9a-fA-F])+|0[bB](?:_?[01])+|0[oO](?:_?[0-7])+|0(?:_?[0-7])*"
    r"|[1-9](?:_?[0-9])*)"
)
_DECIMAL = re.compile(
    r"[+-]?(?:[0-9](?:_?[0-9])*\.?(?:[0-9](?:_?[0-9])*)?|\.[0-9](?:_?[0-9])*)"
    r"(?:[eE][+-]?[0-9](?:_?[0-9])*)?"
)
_HEXADECIMAL = re.compile(
    r"[+-]?0[xX](?:(?:_?[0-9a-fA-F])+\.?[0-9a-fA-F_]*|\.[0-9a-fA-F]+)[pP][+-]?[0-9]+"
)
_INT64 = range(-(1 << 63), 1 << 63)
_UINT64 = range(1 << 64)


class LiteralError(ValueError):
    """The text is not a literal of Go; the message is Go's."""


@dataclass(frozen=True, kw_only=True)
class Number:
    """A number as Go's template parser sees it: the value under each kind that can hold it."""

    integer: int | None = None
    unsigned: int | None = None
    real: float | None = None
    complex_: complex | None = None


def as_text(raw: str) -> str:
    """Return `raw` with each byte that is not part of valid UTF-8 as U+FFFD."""
    if raw.isascii():
        return raw
    return raw.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def unquote(literal: str) -> str:
    """Return the text of a Go string literal, given with its quotes. Raises LiteralError."""
    inner = literal[1:-1]
    if literal[0] == "`":
        return inner.replace("\r", "")
    if "\\" not in inner:
        return inner
    # A run of \x escapes may spell one character, so bytes are joined before they are decoded.
    raw = _ESCAPE.sub(lambda found: _escaped(found, '"'), inner)
    return raw.encode("utf-8", "surrogateescape").decode("utf-8", "surrogateescape")


def unquote_char(literal: str) -> int:
    """Return the code point of a Go character literal with its quotes. Raises LiteralError."""
    inner = literal[1:]
    if inner[0] in "'\n":
        raise LiteralError("invalid syntax")
    if inner[0] != "\\":
        code, rest = ord(inner[0]), inner[1:]
    else:
        found = _ESCAPE.match(inner)
        assert found is not None
        code, rest = _escaped_code(found, "'"), inner[found.end() :]
    if rest != "'":
        raise LiteralError(f"malformed character constant: {literal}")
    return code


def _escaped(found: re.Match[str], quote: str) -> str:
    code = _escaped_code(found, quote)
    is_byte = found["byte"] is not None or found["octal"] is not None
    return chr(0xDC00 + code) if is_byte and code >= 0x80 else chr(code)


def _escaped_code(found: re.Match[str], quote: str) -> int:
    kind, digits = found.lastgroup, found[found.lastgroup or 0]
    if kind == "simple" and (digits in _SIMPLE or digits == quote):
        return ord(_SIMPLE.get(digits, digits))
    if kind == "byte":
        return int(digits, 16)
    if kind == "octal" and int(digits, 8) < 256:
        return int(digits, 8)
    if kind in ("short", "long"):
        code = int(digits, 16)
        if code <= 0x10FFFF and not 0xD800 <= code < 0xE000:
            return code
    raise LiteralError("invalid syntax")


def quote(text: str, *, ascii_only: bool = False, mark: str = '"') -> str:
    """Return `text` as a Go literal between two `mark`s, as `%q` prints it."""
    return mark + _UNSAFE.sub(lambda found: _quoted_char(found[0], mark, ascii_only), text) + mark


def _quoted_char(char: str, mark: str, ascii_only: bool) -> str:
    code = ord(char)
    if char in (mark, "\\"):
        return "\\" + char
    if char.isprintable() and (code < 0x80 or not ascii_only):
        return char
    if char in _SHORT:
        return _SHORT[char]
    if code < 0x20 or code == 0x7F:
        return f"\\x{code:02x}"
    if 0xDC80 <= code <= 0xDCFF:
        return f"\\x{code - 0xDC00:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def parse_number(text: str) -> Number:
    """Return the value of a number token. Raises LiteralError with Go's words."""
    if text.endswith("i"):
        return _imaginary(text)
    found = _integer(text)
    if found is not None:
        signed = found if found in _INT64 else None
        unsigned = found if (found in _UINT64 and text[0] not in "+-") or found == 0 else None
        if signed is not None or unsigned is not None:
            return Number(integer=signed, unsigned=unsigned, real=float(found))
    real = _real(text)
    if real is None:
        raise LiteralError(f"illegal number syntax: {quote(text)}")
    if not any(mark in text for mark in ".eEpP"):
        raise LiteralError(f"integer overflow: {quote(text)}")
    return Number(real=real, integer=int(real) if real.is_integer() else None)


def _imaginary(text: str) -> Number:
    """`2i`, or the pair `1+2i`, which has no space inside."""
    cut = max(text.rfind("+"), text.rfind("-"))
    if cut > 0 and text[cut - 1] in "eEpP":
        cut = max(text.rfind("+", 0, cut), text.rfind("-", 0, cut))
    real = _real(text[:cut]) if cut > 0 else 0.0
    imaginary = _real(text[max(cut, 0) : -1])
    if real is None or imaginary is None:
        raise LiteralError(f"illegal number syntax: {quote(text)}")
    return Number(complex_=complex(real, imaginary))


def _integer(text: str) -> int | None:
    if not _INTEGER.fullmatch(text):
        return None
    bare = text.lstrip("+-").replace("_", "")
    # A leading zero alone means octal in Go.
    value = int(bare, 8) if bare.isdigit() and bare[0] == "0" else int(bare, 0)
    return -value if text[0] == "-" else value


def _real(text: str) -> float | None:
    bare = text.replace("_", "")
    if _DECIMAL.fullmatch(text):
        value = float(bare)
    elif _HEXADECIMAL.fullmatch(text):
        try:
            value = float.fromhex(bare)
        except (OverflowError, ValueError):
            return None
    else:
        return None
    return None if value in (float("inf"), float("-inf")) else value
