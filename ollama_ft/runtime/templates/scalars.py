"""Print strings, numbers and truth values under fmt's verbs, flags, widths and precisions."""

from dataclasses import dataclass, replace
from decimal import Decimal

from ollama_ft.runtime.templates.gotypes import Byte, Value
from ollama_ft.runtime.templates.literals import quote

_BASES = {"d": "d", "b": "b", "o": "o", "O": "o", "x": "x", "X": "X", "v": "d"}
_SHARP = {"b": "0b", "o": "0", "O": "0o", "x": "0x", "X": "0X"}


@dataclass(frozen=True, slots=True)
class Spec:
    """A verb with its flags; width and precision count characters, None where not given."""

    verb: str
    width: int | None = None
    precision: int | None = None
    minus: bool = False
    plus: bool = False
    sharp: bool = False
    space: bool = False
    zero: bool = False

    @property
    def sharp_v(self) -> bool:
        """Whether this is `%#v`, Go syntax."""
        return self.sharp and self.verb == "v"


def pad(text: str, spec: Spec) -> str:
    """Fill up to the width: left with spaces or zeros, or right with spaces."""
    width = spec.width or 0
    if spec.minus:
        return text.ljust(width)
    return text.rjust(width, "0" if spec.zero else " ")


def format_scalar(value: Value, spec: Spec) -> str | None:
    """Return a plain value under the verb, or None where the verb is not for its kind."""
    if isinstance(value, str):
        return format_string(value, spec) if spec.verb in "vsxXq" else None
    if isinstance(value, bool):
        return pad("true" if value else "false", spec) if spec.verb in "tv" else None
    if isinstance(value, int):
        return _format_integer(value, spec)
    if isinstance(value, float):
        return _format_float(value, spec) if spec.verb in "vbgGxXfFeE" else None
    assert isinstance(value, complex)
    return _format_complex(value, spec) if spec.verb in "vbgGxXfFeE" else None


def format_string(text: str, spec: Spec) -> str:
    """Return a string under v, s, q, x or X."""
    if spec.verb in "xX":
        return _hexadecimal(text, spec)
    if spec.precision is not None:
        text = text[: spec.precision]
    if spec.verb == "q" or spec.sharp_v:
        return pad(_quoted(text, spec), spec)
    return pad(text, spec)


def _quoted(text: str, spec: Spec) -> str:
    # strconv.CanBackquote: no control characters but tab, no backquote, no BOM, valid UTF-8.
    if (
        spec.sharp
        and spec.verb == "q"
        and not any(
            char in "`\x7f\ufeff" or (char < " " and char != "\t") or "\ud800" <= char < "\ue000"
            for char in text
        )
    ):
        return f"`{text}`"
    return quote(text, ascii_only=spec.plus)


def _hexadecimal(text: str, spec: Spec) -> str:
    raw = text.encode("utf-8", "surrogateescape")[: spec.precision]
    prefix = "0x" if spec.sharp and raw else ""
    text = prefix + (raw.hex(" ").replace(" ", " " + prefix) if spec.space else raw.hex())
    return pad(text.upper() if spec.verb == "X" else text, spec)


def _format_integer(value: int, spec: Spec) -> str | None:
    if spec.verb == "c":
        return pad(_rune(value), spec)
    if spec.verb == "q":
        return pad(quote(_rune(value), ascii_only=spec.plus, mark="'"), spec)
    if spec.verb == "U":
        return pad(_code_point(value, spec), spec)
    if spec.verb not in _BASES:
        return None
    if spec.sharp_v and isinstance(value, Byte):
        return pad(f"0x{int(value):x}", spec)
    return _digits(value, spec)


def _rune(value: int) -> str:
    valid = 0 <= value <= 0x10FFFF and not 0xD800 <= value < 0xE000
    return chr(value) if valid else "\ufffd"


def _code_point(value: int, spec: Spec) -> str:
    digits = f"{value & 0xFFFFFFFFFFFFFFFF:X}".rjust(max(4, spec.precision or 0), "0")
    char = _rune(value)
    shown = f" '{char}'" if spec.sharp and char.isprintable() else ""
    return f"U+{digits}{shown}"


def _digits(value: int, spec: Spec) -> str:
    if spec.precision == 0 and value == 0:
        return pad("", Spec(verb="s", width=spec.width, minus=spec.minus))
    digits = format(abs(int(value)), _BASES[spec.verb])
    sign = _sign(value < 0, spec)
    prefix = _SHARP.get(spec.verb, "") if spec.sharp or spec.verb == "O" else ""
    if prefix == "0" and digits.startswith("0"):
        prefix = ""
    least = spec.precision or 0
    if spec.precision is None and spec.zero and not spec.minus:
        least = (spec.width or 0) - len(sign)
    text = sign + prefix + digits.rjust(least, "0")
    return pad(text, Spec(verb="s", width=spec.width, minus=spec.minus))


def _sign(negative: bool, spec: Spec) -> str:
    if negative:
        return "-"
    return "+" if spec.plus else " " if spec.space else ""


def shortest(value: float) -> str:
    """Return `%v` of a float: shortest digits, an exponent below 1e-4 and from 1e6 on."""
    if value == 0 or 1e-4 <= abs(value) < 1e6:
        return plain_float(value)
    sign, digits, exponent = Decimal(repr(value)).normalize().as_tuple()
    assert isinstance(exponent, int)
    power = exponent + len(digits) - 1
    fraction = "".join(map(str, digits[1:]))
    mantissa = f"{digits[0]}.{fraction}" if fraction else str(digits[0])
    return f"{'-' if sign else ''}{mantissa}e{'-' if power < 0 else '+'}{abs(power):02d}"


def plain_float(value: float) -> str:
    """Return the shortest digits that give `value` back, without an exponent."""
    text = format(Decimal(repr(value)), "f")
    return text.rstrip("0").rstrip(".") if "." in text else text


def _format_float(value: float, spec: Spec) -> str:
    body = _float_body(abs(value), spec)
    negative = str(value).startswith("-")
    sign = _sign(negative, spec)
    if spec.zero and not spec.minus:
        return sign + body.rjust((spec.width or 0) - len(sign), "0")
    return pad(sign + body, spec)


def _float_body(value: float, spec: Spec) -> str:
    verb = spec.verb
    if verb in "xXb":
        text = _hex_float(value)
        return text.upper() if verb == "X" else text
    if verb in "vgG" and spec.precision is None:
        text = shortest(value)
        return text.upper() if verb == "G" else text
    precision = 6 if spec.precision is None else min(spec.precision, 400)
    sharp = "#" if spec.sharp else ""
    return format(value, f"{sharp}.{precision}{'g' if verb == 'v' else verb}")


def _hex_float(value: float) -> str:
    mantissa, _, exponent = value.hex().partition("p")
    return f"{mantissa.rstrip('0').rstrip('.')}p{exponent[0]}{int(exponent[1:]):02d}"


def _format_complex(value: complex, spec: Spec) -> str:
    real = _format_float(value.real, spec)
    return f"({real}{_format_float(value.imag, replace(spec, plus=True))}i)"
