"""Personal data and secrets in a text: where they stand, and the text without them.

What can be told by its form is found, and numbers only where their checksum agrees: e-mail and IP
addresses, telephone numbers, IBANs, payment cards, Chinese identity numbers, keys, JWTs, PEM
blocks. Names and postal addresses have no form and are not found: that takes a language model.
(presidio would bring spaCy, eighteen further packages and a model for each language.)

Pure, and quick enough to stand in front of a log. Nothing is imported before it is needed.
"""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

KINDS = ("pem", "jwt", "key", "email", "iban", "chinese-id", "ip", "card", "phone")


@dataclass(frozen=True, kw_only=True, order=True)
class Span:
    """One find: text[start:end]. `value` is equal for two writings of the same thing."""

    start: int
    end: int
    kind: str  # one of KINDS
    value: str


@dataclass(kw_only=True)
class Memory:
    """The placeholders of one conversation, so that a thing has one name in all its turns."""

    names: dict[tuple[str, str], str] = field(default_factory=dict)
    highest: dict[str, int] = field(default_factory=dict)

    def name(self, span: Span) -> str:
        """The placeholder of what was found: "[EMAIL_1]", the same for the same value."""
        key = (span.kind, span.value)
        if key not in self.names:
            label = span.kind.upper().replace("-", "_")
            self.highest[label] = self.highest.get(label, 0) + 1
            self.names[key] = f"[{label}_{self.highest[label]}]"
        return self.names[key]

    def see(self, text: str) -> None:
        """Take note of placeholders that stand in `text` already: their numbers are taken."""
        for match in _PLACEHOLDER.finditer(text):
            label, number = match[1], int(match[2])
            self.highest[label] = max(self.highest.get(label, 0), number)


_PLACEHOLDER = re.compile(r"\[([A-Z_]{2,12})_(\d{1,6})\]")


def redact(text: str, memory: Memory) -> str:
    """The text with a typed placeholder in the place of everything that `find` finds in it.

    The same e-mail address is [EMAIL_1] wherever the same `memory` goes; give one to all turns of
    a conversation. What is redacted already stays as it is.
    """
    if "[" in text:
        memory.see(text)
    pieces, end = [], 0
    for span in find(text):
        pieces += [text[end : span.start], memory.name(span)]
        end = span.end
    return "".join([*pieces, text[end:]]) if pieces else text


def find(text: str) -> list[Span]:
    """Everything in `text` that looks like personal data or a secret, by place; none overlap.

    Full-width digits and signs (１３８…, ＠) count as plain ones.
    """
    plain = text.translate(_PLAIN) if _WIDE.search(text) else text
    found: list[Span] = []
    numbers = _MANY_DIGITS.search(plain) is not None
    for finder in _FINDERS if numbers else _WITHOUT_NUMBERS:
        if spans := sorted(finder(plain)):
            found += spans
            plain = _blank(plain, spans)  # the next finders must not see them again
    return sorted(found)


def _blank(text: str, spans: list[Span]) -> str:
    """The text with NULs where the spans are; every position stays as it is."""
    pieces, end = [], 0
    for span in spans:
        pieces += [text[end : span.start], "\0" * (span.end - span.start)]
        end = span.end
    return "".join([*pieces, text[end:]])


# Full-width digits, letters and the signs inside numbers and addresses; not the Chinese comma.
_SIGNS = "０１２３４５６７８９＠．＋－／（）＿：＝"
_WIDE = re.compile("[０-９＠]")
_PLAIN = {
    code: code - 0xFEE0
    for code in range(0xFF01, 0xFF5F)
    if chr(code) in _SIGNS or chr(code - 0xFEE0).isalpha()
}


# --- secrets ---


def _pem(text: str) -> Iterator[Span]:
    """PEM blocks, whatever is in them; one whose end is missing goes as far as its lines do."""
    start = text.find("-----BEGIN ")
    while start >= 0:
        end = _PEM_LINES.match(text, start).end()  # type: ignore[union-attr]
        if end - start > 40:
            yield Span(start=start, end=end, kind="pem", value=text[start:end])
        start = text.find("-----BEGIN ", max(end, start + 11))


# Real line breaks, or the "\n" that they become in a JSON or .env file.
_PEM_LINES = re.compile(
    r"-----BEGIN [A-Z0-9 ]{3,40}-----"
    r"(?:[A-Za-z0-9+/=:, \r\n]|\\[rn]|-(?!----))*"
    r"(?:-----END [A-Z0-9 ]{3,40}-----)?|-----BEGIN "
)


def _jwt(text: str) -> Iterator[Span]:
    if "eyJ" in text:
        for match in _JWT.finditer(text):
            if _is_jose_header(match[1]):
                yield _span(match, "jwt", match[0])


_JWT = re.compile(r"(?<![\w-])(eyJ[\w-]{8,})\.[\w-]{8,}\.[\w-]*", re.ASCII)


def _is_jose_header(encoded: str) -> bool:
    import base64
    import json

    try:
        header = json.loads(base64.urlsafe_b64decode(encoded + "=" * (-len(encoded) % 4)))
    except ValueError:
        return False
    return isinstance(header, dict) and "alg" in header


def _keys(text: str) -> Iterator[Span]:
    """Keys by the beginnings that their makers gave them; words behind "password:" and the like.

    The beginnings are those that the makers document for secret scanners.
    """
    for match in _KEY.finditer(text):
        yield _span(match, "key", match[0])
    for match in _ASSIGNED.finditer(text):
        value = match[1]
        mixed = any(c.isdigit() for c in value) and any(c.isalpha() for c in value)
        if mixed and not _KEY.match(value):
            yield Span(start=match.start(1), end=match.end(1), kind="key", value=value)


_KEY = re.compile(
    r"(?<![A-Za-z0-9])(?:"
    r"A(?:KIA|SIA)[A-Z0-9]{16}"  # AWS
    r"|AIza[\w-]{35}"  # Google
    r"|gh[pousr]_[A-Za-z0-9]{36,255}|github_pat_\w{22,255}"
    r"|glpat-[\w-]{20,64}"  # GitLab
    r"|xox[abeprs]-[A-Za-z0-9-]{10,250}"  # Slack
    r"|sk-(?:proj-|ant-|or-)?[\w-]{20,200}"  # OpenAI, Anthropic, OpenRouter, DeepSeek
    r"|[rs]k_(?:live|test)_[A-Za-z0-9]{16,200}"  # Stripe
    r"|hf_[A-Za-z0-9]{30,64}"  # Hugging Face
    r"|npm_[A-Za-z0-9]{36}|pypi-[\w-]{60,250}"
    r")(?![A-Za-z0-9])",
    re.ASCII,
)
_ASSIGNED = re.compile(
    r"(?:\b(?:passw(?:or)?d|pwd|secret|api[ _-]?key|access[ _-]?token|token)\b|密码|口令|密钥)"
    r"""["']?(?:\s?[:=：]\s?|\sis\s|\s?[是为]\s?)["']?"""
    r"([A-Za-z0-9_./+=!@#$%^&~-]{6,200})(?![A-Za-z0-9(])",
    re.IGNORECASE,
)


# --- addresses ---


def _email(text: str) -> Iterator[Span]:
    if "@" in text:
        for match in _EMAIL.finditer(text):
            if not match[0].startswith("git@"):
                yield _span(match, "email", match[0].lower())


# ASCII on purpose: Chinese text runs into an address without a space.
_EMAIL = re.compile(
    r"(?<![A-Za-z0-9.!#$%&'*+/=?^_`{|}~-])[A-Za-z0-9][A-Za-z0-9._%+'-]{0,63}@"
    r"(?:[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?\.){1,8}[A-Za-z]{2,24}(?![A-Za-z0-9])"
)


def _ip(text: str) -> Iterator[Span]:
    """IP addresses that can name somebody: not loopback, masks or a router's own address."""
    import ipaddress

    candidates = [*_IPV4.finditer(text)] if text.count(".") > 2 else []
    candidates += _IPV6.finditer(text) if text.count(":") > 1 else []
    for match in candidates:
        try:
            address = ipaddress.ip_address(match[0])
        except ValueError:
            continue
        if _names_somebody(address) and not _VERSION.search(
            text, max(0, match.start() - 16), match.start()
        ):
            yield _span(match, "ip", str(address))


_IPV4 = re.compile(r"(?<![\w.-])(?:\d{1,3}\.){3}\d{1,3}(?![\w-]|\.\d)", re.ASCII)
_IPV6 = re.compile(r"(?<![\w:.])(?:[0-9A-Fa-f]{0,4}:){2,7}[0-9A-Fa-f]{0,4}(?![\w:])", re.ASCII)
_VERSION = re.compile(r"(?:\bv|version|release|firmware|版本号?|固件)[ :：]{0,2}\Z", re.IGNORECASE)


def _names_somebody(address: object) -> bool:
    import ipaddress

    if isinstance(address, ipaddress.IPv4Address):
        first, last = address.packed[0], address.packed[3]
        default = address.is_private and last in (0, 1, 254, 255) and first in (10, 172, 192)
        return first not in (0, 127) and first < 224 and not default
    assert isinstance(address, ipaddress.IPv6Address), "ip_address makes one of the two"
    # Global unicast, unique local, link local: "a::b" and "10:20:30" are none of them.
    return address.packed[0] >> 5 == 1 or address.packed[0] in (0xFC, 0xFD, 0xFE)


# --- numbers with a checksum ---


def _iban(text: str) -> Iterator[Span]:
    for match in _IBAN.finditer(text):
        if found := _longest_iban(text, match.start()):
            yield found


_IBAN = re.compile(r"(?<![A-Za-z0-9])[A-Za-z]{2}\d{2}(?= ?-?[A-Za-z0-9]{4})")
_IBAN_SHORTEST, _IBAN_LONGEST = 15, 34  # ISO 13616; Norway has 15


def _longest_iban(text: str, start: int) -> Span | None:
    from stdnum import iban

    compact, at = "", start
    for at in range(start, min(len(text), start + 2 * _IBAN_LONGEST)):
        letter = text[at]
        if letter.isascii() and letter.isalnum():
            compact += letter.upper()
        elif letter not in " -":
            break
        # The country fixes the length, so at most one of these is valid.
        ends = not (text[at + 1 : at + 2].isascii() and text[at + 1 : at + 2].isalnum())
        if ends and len(compact) >= _IBAN_SHORTEST and iban.is_valid(compact):
            return Span(start=start, end=at + 1, kind="iban", value=compact)
        if len(compact) >= _IBAN_LONGEST:
            break
    return None


def _chinese_id(text: str) -> Iterator[Span]:
    for match in _CHINESE_ID.finditer(text):
        from stdnum.cn import ric

        if ric.is_valid(match[0].upper()):
            yield _span(match, "chinese-id", match[0].upper())


_CHINESE_ID = re.compile(
    r"(?<![A-Za-z0-9])[1-9]\d{5}(?:19|20)\d{2}(?:0[1-9]|1[0-2])(?:0[1-9]|[12]\d|3[01])\d{3}[\dXx]"
    r"(?![A-Za-z0-9])",
    re.ASCII,
)


def _card(text: str) -> Iterator[Span]:
    for match in _CARD.finditer(text):
        from stdnum import luhn

        digits = re.sub(r"\D", "", match[0])
        if _ISSUER.match(digits) and len(set(digits)) > 1 and luhn.is_valid(digits):
            yield _span(match, "card", digits)


# 13 to 19 digits, plain or in groups as they are embossed.
_CARD = re.compile(
    r"(?<![\w.+-])(?:\d{13,19}|\d{4}(?:[ -]\d{4}){3}(?:[ -]\d{3})?|\d{4}[ -]\d{6}[ -]\d{4,5}"
    r"|\d{6}[ -]\d{13})(?![\w]|[.-]\d)",
    re.ASCII,
)
# Visa, Mastercard, American Express, Discover, JCB, Diners, UnionPay, Maestro: ISO/IEC 7812.
_ISSUER = re.compile(
    r"4|5[0-8]|2(?:22[1-9]|2[3-9]|[3-6]|7[01]|720)|3[47]|6(?:011|[2-5]|7|9)|35|3[0689]"
)


# --- telephones ---

# A number without a country code is looked for in these countries, in this order.
REGIONS = ("CN", "US", "GB", "DE", "FR", "JP", "IN")


def _phone(text: str) -> Iterator[Span]:
    """Numbers that phonenumbers calls valid, and that are written like one or announced as one."""
    for match in _DIGITS.finditer(_without_dates(text)):
        written = match[0].rstrip(" -./(")
        announced = bool(_CUE.search(text, max(0, match.start() - 24), match.start()))
        if number := _valid_phone(written, announced):
            end = match.start() + len(written)
            yield Span(start=match.start(), end=end, kind="phone", value=number)
        else:
            yield from _phones_apart(text, match)


_DIGITS = re.compile(
    r"(?<![A-Za-z0-9_+#=&-])(?<![A-Za-z_]/)(?<![0-9A-Za-z_]\.)"
    r"(?:\+|\(\+?)?\d(?:[ ./()-]{0,2}\d){6,40}(?![\w%€£¥$]|\.\d)",
    re.ASCII,
)
_CUE = re.compile(
    r"(?:phone|mobile|\bcell|\btel\b|telephone|\bcall|whatsapp|\bfax|\bdial|\bring|\btext|reach \w+"
    r"|电话|手机|号码|热线|致电|拨打|联系|微信|来电|传真)[^\d\n]{0,16}\Z",
    re.IGNORECASE,
)
_DATE = re.compile(
    r"(?<![\d])(?<!\d[-./])(?:(?:19|20)\d\d([-./])\d{1,2}\1\d{1,2}"
    r"|\d{1,2}([-./])\d{1,2}\2(?:(?:19|20)\d\d|\d\d))(?![-./]?\d)",
    re.ASCII,
)
# How numbers are written nationally, so that an order number is none: a Chinese mobile; an area
# code with its 0 and separators; the American 3-3-4 with them.
_NATIONAL = re.compile(
    r"1[3-9]\d(?:\d{8}|[ -]\d{4}[ -]\d{4})"
    r"|\(?0\d{1,4}\)?[ ./-]{1,2}\d{2,4}(?:[ ./-]?\d{2,5}){1,4}"
    r"|(?:1[ .-])?(?:\(\d{3}\) ?|\d{3}[ .-])\d{3}[ .-]\d{4}"
)


def _without_dates(text: str) -> str:
    return _DATE.sub(lambda match: "\0" * len(match[0]), text)


def _valid_phone(written: str, announced: bool) -> str:
    """The digits behind country code and leading 0 ("13812345678"); "" if it is no number."""
    import phonenumbers as pn

    international = "+" in written[:2]
    if not (international or announced or _NATIONAL.fullmatch(written)):
        return ""
    for region in (None,) if international else REGIONS:
        try:
            number = pn.parse(written, region)
        except pn.NumberParseException:
            continue
        if pn.is_valid_number(number):
            return pn.national_significant_number(number)
    return ""


def _phones_apart(text: str, match: re.Match[str]) -> Iterator[Span]:
    """The numbers in a run of several: "13812345678 13912345678", "010-… / 139…"."""
    for piece in _APART.finditer(text, match.start(), match.end()):
        if piece[0] != match[0] and (number := _valid_phone(piece[0], announced=False)):
            yield _span(piece, "phone", number)


_APART = re.compile(r"\(?\+?\d(?:[-.()]?\d){6,19}", re.ASCII)


def _span(match: re.Match[str], kind: str, value: str) -> Span:
    return Span(start=match.start(), end=match.end(), kind=kind, value=value)


_MANY_DIGITS = re.compile(r"\d(?:[ ./()-]{0,2}\d){6}", re.ASCII)

# In this order: a card's digits could be a telephone's, a key can hold an address.
_FINDERS: tuple[Callable[[str], Iterator[Span]], ...] = (
    _pem,
    _jwt,
    _keys,
    _email,
    _ip,
    _iban,
    _chinese_id,
    _card,
    _phone,
)
_WITHOUT_NUMBERS = _FINDERS[:5]
