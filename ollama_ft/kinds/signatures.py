"""Signing versions with keys of one's own (Ed25519), and checking them where they arrive.

    registry/keys/NAME.key            a private key (PEM), readable by its owner alone
    registry/keys/NAME.pub            its public half, to give away
    registry/keys/trusted/NAME.pub    keys of others that are trusted here

What is signed is the manifest, which names every blob by digest, in the envelope that DSSE defines
(github.com/secure-systems-lab/dsse, its pre-authentication encoding). The signature travels in an
annotation of the same manifest, so any registry carries it. No service is asked.
"""

import base64
import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from ollama_ft.core.errors import BadInput, Conflict, NotFound, Unsupported
from ollama_ft.core.home import Home
from ollama_ft.runtime.oci.artefact import MANIFEST, Artefact, canonical

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import (
        Ed25519PrivateKey,
        Ed25519PublicKey,
    )

ANNOTATION = "vnd.ollama-ft.signatures"
PASSPHRASE = "OLLAMA_FT_KEY_PASSPHRASE"
MOST = 8  # signatures of one artefact
_NAME = re.compile(r"[a-z0-9_][a-z0-9_.-]{0,63}")


@dataclass(frozen=True, kw_only=True)
class Key:
    """One key that is known here: by which name, and what it may do."""

    name: str
    fingerprint: str  # sha256 of the raw public key, 64 hex digits
    own: bool  # whether the private half is here


@dataclass(frozen=True, kw_only=True)
class Signed:
    """Who signed an artefact. `name` is None if the key is not trusted here."""

    fingerprint: str
    name: str | None


def new_key(home: Home, name: str, env: Mapping[str, str]) -> Key:
    """Make a key pair; its private half is encrypted where the passphrase's variable is set.

    Raises Conflict if there is a key of that name: a key is never overwritten.
    """
    ed25519 = _ed25519()
    from cryptography.hazmat.primitives import serialization

    keys = folder(home)
    if (keys / f"{_checked(name)}.key").exists() or (keys / f"{name}.pub").exists():
        raise Conflict(f"There is a key {name} already.", mend="ollama-ft keys list")
    private: Ed25519PrivateKey = ed25519.Ed25519PrivateKey.generate()
    secret = env.get(PASSPHRASE, "")
    written = private.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.BestAvailableEncryption(secret.encode())
        if secret
        else serialization.NoEncryption(),
    )
    keys.mkdir(parents=True, exist_ok=True)
    handle = os.open(keys / f"{name}.key", os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(handle, "wb") as file:
        file.write(written)
    (keys / f"{name}.pub").write_bytes(_pem(private.public_key()))
    return Key(name=name, fingerprint=_fingerprint(private.public_key()), own=True)


def trust(home: Home, path: Path, name: str) -> Key:
    """Trust the public key in `path` under `name`. Raises BadInput, Conflict, NotFound."""
    if not path.is_file():
        raise NotFound(f"There is no file {path}.")
    key = _public(path.read_bytes(), path.name)
    target = folder(home) / "trusted" / f"{_checked(name)}.pub"
    if target.exists() and _public(target.read_bytes(), name) != key:
        raise Conflict(
            f"Another key is trusted as {name} already.", mend=f"remove {target}, or choose a name"
        )
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(_pem(key))
    return Key(name=name, fingerprint=_fingerprint(key), own=False)


def known_keys(home: Home) -> list[Key]:
    """Own keys, then trusted ones, each by name. Own keys are trusted."""
    keys = folder(home)
    own = {path.stem for path in keys.glob("*.key")}
    found = []
    for path in (*sorted(keys.glob("*.pub")), *sorted((keys / "trusted").glob("*.pub"))):
        key = _public(path.read_bytes(), path.name)
        mine = path.parent == keys and path.stem in own
        found.append(Key(name=path.stem, fingerprint=_fingerprint(key), own=mine))
    return found


def sign(home: Home, artefact: Artefact, name: str, env: Mapping[str, str]) -> Artefact:
    """The artefact with this key's signature added to those that it has.

    Raises NotFound if there is no such key, BadInput if it cannot be opened.
    """
    private = _private(home, name, env)
    fingerprint = _fingerprint(private.public_key())
    others = [row for row in _rows(artefact) if _row_key(row) != fingerprint]
    raw = private.public_key().public_bytes_raw()
    mine = {"key": _text(raw), "signature": _text(private.sign(_payload(artefact)))}
    rows = sorted([*others, mine], key=lambda row: row["key"])
    return artefact.annotated({ANNOTATION: canonical(rows).decode()})


def signatures(home: Home, artefact: Artefact) -> list[Signed]:
    """Who signed the artefact, every signature checked; empty if nobody did.

    Raises BadInput if any signature is not that of this content: it was changed since.
    """
    rows = _rows(artefact)
    if not rows:
        return []
    ed25519 = _ed25519()
    from cryptography.exceptions import InvalidSignature

    names = {key.fingerprint: key.name for key in reversed(known_keys(home))}
    found = []
    for row in rows:
        key = ed25519.Ed25519PublicKey.from_public_bytes(_bytes(row["key"], 32))
        try:
            key.verify(_bytes(row["signature"], 64), _payload(artefact))
        except InvalidSignature as error:
            raise BadInput(
                f"The signature by {names.get(_fingerprint(key), _fingerprint(key)[:12])} is not "
                "that of this content: it was changed after it was signed.",
                mend="fetch it anew from who made it",
            ) from error
        fingerprint = _fingerprint(key)
        found.append(Signed(fingerprint=fingerprint, name=names.get(fingerprint)))
    return found


def _payload(artefact: Artefact) -> bytes:
    body = artefact.annotated({ANNOTATION: None}).content()
    kind = MANIFEST.encode()
    return b"DSSEv1 %d %s %d %s" % (len(kind), kind, len(body), body)


def _rows(artefact: Artefact) -> list[dict[str, str]]:
    text = artefact.annotations.get(ANNOTATION)
    if text is None:
        return []
    try:
        rows = json.loads(text)
    except ValueError as error:
        raise BadInput("The artefact's signatures are not JSON.") from error
    well = isinstance(rows, list) and 1 <= len(rows) <= MOST
    if not well or any(not isinstance(r, dict) or set(r) != {"key", "signature"} for r in rows):
        raise BadInput("The artefact's signatures are not in order.")
    return [{key: str(value) for key, value in row.items()} for row in rows]


def _row_key(row: Mapping[str, str]) -> str:
    return _fingerprint(_ed25519().Ed25519PublicKey.from_public_bytes(_bytes(row["key"], 32)))


def _private(home: Home, name: str, env: Mapping[str, str]) -> "Ed25519PrivateKey":
    ed25519 = _ed25519()
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    path = folder(home) / f"{_checked(name)}.key"
    if not path.is_file():
        raise NotFound(f"There is no key {name} here.", mend=f"ollama-ft keys new {name}")
    content, secret = path.read_bytes(), env.get(PASSPHRASE, "").encode() or None
    try:
        encrypted = b"ENCRYPTED" in content.split(b"\n", 1)[0]
        key = load_pem_private_key(content, secret if encrypted else None)
    except (ValueError, TypeError) as error:
        raise BadInput(
            f"The key {name} cannot be opened: {error}.", mend=f"set {PASSPHRASE}"
        ) from error
    if not isinstance(key, ed25519.Ed25519PrivateKey):
        raise BadInput(f"{path.name} is no Ed25519 key.")
    return cast("Ed25519PrivateKey", key)


def _public(content: bytes, name: str) -> "Ed25519PublicKey":
    ed25519 = _ed25519()
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    try:
        key = load_pem_public_key(content)
    except (ValueError, UnsupportedAlgorithm) as error:
        raise BadInput(f"{name} is no public key: {error}.") from error
    if not isinstance(key, ed25519.Ed25519PublicKey):
        raise BadInput(f"{name} is no Ed25519 key.")
    return cast("Ed25519PublicKey", key)


def _pem(key: "Ed25519PublicKey") -> bytes:
    from cryptography.hazmat.primitives import serialization

    return key.public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )


def _fingerprint(key: "Ed25519PublicKey") -> str:
    import hashlib

    return hashlib.sha256(key.public_bytes_raw()).hexdigest()


def _ed25519() -> Any:
    try:
        from cryptography.hazmat.primitives.asymmetric import ed25519
    except ModuleNotFoundError as error:
        raise Unsupported(
            "Signatures need the library cryptography, which is not installed.",
            mend="pip install 'ollama-ft[sign]'",
        ) from error
    return ed25519


def folder(home: Home) -> Path:
    """Where the keys of this home are."""
    return home.path / "registry" / "keys"


def _checked(name: str) -> str:
    if not _NAME.fullmatch(name):
        raise BadInput(f"{name!r} is no key's name: lower-case letters, digits, '_', '.', '-'.")
    return name


def _text(raw: bytes) -> str:
    return base64.b64encode(raw).decode()


def _bytes(text: str, size: int) -> bytes:
    try:
        raw = base64.b64decode(text, validate=True)
    except ValueError as error:
        raise BadInput("A signature is not base64.") from error
    if len(raw) != size:
        raise BadInput("A signature, or its key, is of another length than Ed25519 has.")
    return raw
