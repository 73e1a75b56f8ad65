"""Recognise a GGUF's Jinja chat template as one that Ollama has a Go template for.

Ollama compares the text with a list of known Jinja templates and takes the nearest within 99 edits
(Levenshtein). Those texts belong to the makers of their models, so only fingerprints are kept: each
word as a hash and its length, each other character as a hash. Distances between fingerprints are
counted in characters, as Ollama counts, but a changed word counts whole: what is recognised here,
Ollama recognises, and only at the edge of the limit may one be missed.
"""

import base64
import functools
import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources

LIMIT = 100  # edits; Ollama takes what is nearer (template/template.go, Named)
_MARK = re.compile(r"[A-Za-z0-9]+|[\s\S]")
_BYTES = 3  # of hash for each mark, followed by one of length
_MAX_WORD = 255


@dataclass(frozen=True, kw_only=True)
class BuiltIn:
    """One of Ollama's own templates, with the parameters that creating a model from it sets."""

    name: str
    template: str
    parameters: Mapping[str, Sequence[str]]


def recognise(jinja: str) -> BuiltIn | None:
    """Return the built-in template that Ollama would give a GGUF with this Jinja, if carried."""
    found = nearest(jinja)
    return None if found is None else _built_ins().get(found[0])


def nearest(jinja: str) -> tuple[str, int] | None:
    """Return name and distance of the known template nearest to `jinja`, if within the limit.

    A name may be one whose Go template is not carried here (phi-3, granite-instruct): Ollama would
    use it, so a caller should not expect the same prompt there.
    """
    from rapidfuzz.distance import Levenshtein

    known = _fingerprints()
    if len(jinja) > LIMIT + max(len(sequence) for _, sequence in known):
        return None
    wanted = _sequence(_marks(jinja))
    best: tuple[str, int] | None = None
    for name, sequence in known:
        limit = LIMIT - 1 if best is None else best[1] - 1
        distance = Levenshtein.distance(sequence, wanted, score_cutoff=limit)
        if distance <= limit:
            best = name, distance
        if distance == 0:
            break
    return best


def fingerprint(jinja: str) -> str:
    """Return the fingerprint of a Jinja template, as `fingerprints.json` holds it (base64)."""
    packed = b"".join(mark[:_BYTES] + bytes([mark[_BYTES]]) for mark in _marks(jinja))
    return base64.b64encode(packed).decode()


def _marks(jinja: str) -> list[bytes]:
    """Hash and length of each word and other character."""
    marks = []
    for found in _MARK.finditer(jinja):
        word = found[0][:_MAX_WORD]
        marks.append(_hash(word) + bytes([len(word)]))
    return marks


@functools.lru_cache(maxsize=4096)
def _hash(word: str) -> bytes:
    return hashlib.blake2b(word.encode("utf-8", "replace"), digest_size=_BYTES).digest()


def _sequence(marks: list[bytes]) -> list[int]:
    """One number for each character, so that an edit distance counts characters."""
    return [int.from_bytes(mark) << 8 | place for mark in marks for place in range(mark[_BYTES])]


@functools.cache
def _fingerprints() -> list[tuple[str, list[int]]]:
    entries = json.loads(_file("fingerprints.json"))
    size = _BYTES + 1
    known = []
    for entry in entries:
        packed = base64.b64decode(entry["marks"])
        marks = [packed[at : at + size] for at in range(0, len(packed), size)]
        known.append((str(entry["name"]), _sequence(marks)))
    return known


@functools.cache
def _built_ins() -> dict[str, BuiltIn]:
    names = {name for name, _ in _fingerprints()}
    folder = resources.files(__package__) / "builtin"
    found = {}
    for name in names:
        if (folder / f"{name}.json").is_file():
            entry = json.loads(_file(f"{name}.json"))
            found[name] = BuiltIn(
                name=name, template=entry["template"], parameters=entry["parameters"]
            )
    return found


def built_ins() -> list[BuiltIn]:
    """Return the built-in templates that are carried, by name."""
    return sorted(_built_ins().values(), key=lambda one: one.name)


def _file(name: str) -> str:
    return (resources.files(__package__) / "builtin" / name).read_text(encoding="utf-8")
