"""What the user's docker or podman login knows of a registry. Nothing is kept of our own.

Looked at in this order: `OLLAMA_FT_REGISTRY_AUTH` (user:password, for machines without a login),
podman's file (`REGISTRY_AUTH_FILE`), docker's (`DOCKER_CONFIG`, else `~/.docker`), podman's usual
place. In a file: the helper named for the host, then the entry for it, then the common helper.
"""

import base64
import json
import re
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ollama_ft.core.errors import BadInput

VARIABLE = "OLLAMA_FT_REGISTRY_AUTH"
HELPER_SECONDS = 30
_HELPER = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_HUB_KEY = "https://index.docker.io/v1/"


@dataclass(frozen=True, kw_only=True)
class Credentials:
    """How one host knows the user. `refresh` is an OAuth refresh token in the password's place."""

    user: str = ""
    password: str = field(default="", repr=False)
    refresh: str = field(default="", repr=False)
    origin: str = ""  # the file, helper or variable that they come from

    @property
    def basic(self) -> str:
        """The value of a basic Authorization header."""
        pair = f"{self.user}:{self.password}".encode()
        return f"Basic {base64.b64encode(pair).decode()}"


def find_credentials(host: str, env: Mapping[str, str]) -> Credentials | None:
    """The user's credentials for `host` ("registry.example:5000"); None to ask as nobody.

    Raises BadInput for a login file that cannot be read, and a helper that fails.
    """
    if written := env.get(VARIABLE, ""):
        user, _, password = written.partition(":")
        return Credentials(user=user, password=password, origin=VARIABLE)
    for path in _files(env):
        if path.is_file() and (found := _from_file(path, host, env)):
            return found
    return None


def _files(env: Mapping[str, str]) -> Iterator[Path]:
    if named := env.get("REGISTRY_AUTH_FILE"):
        yield Path(named)
    docker = env.get("DOCKER_CONFIG")
    home = Path(env.get("HOME") or "~").expanduser()
    yield (Path(docker) if docker else home / ".docker") / "config.json"
    if runtime := env.get("XDG_RUNTIME_DIR"):
        yield Path(runtime) / "containers" / "auth.json"
    yield home / ".config" / "containers" / "auth.json"  # podman's where there is no such folder


def _from_file(path: Path, host: str, env: Mapping[str, str]) -> Credentials | None:
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise BadInput(f"The login file {path} cannot be read: {error}.") from error
    if not isinstance(config, dict):
        raise BadInput(f"The login file {path} is no JSON object.")
    helpers, entries = _object(config, "credHelpers"), _object(config, "auths")
    for key in _keys(host):
        if helper := helpers.get(key):
            return _ask_helper(str(helper), key, env)
    for key in _keys(host):
        if (entry := _object(entries, key)) and (found := _entry(entry, path)):
            return found
    if common := config.get("credsStore"):
        return next((c for key in _keys(host) if (c := _ask_helper(str(common), key, env))), None)
    return None


def _keys(host: str) -> tuple[str, ...]:
    """The names under which login files keep a host."""
    if host in ("docker.io", "index.docker.io", "registry-1.docker.io"):
        return (_HUB_KEY, "docker.io", "index.docker.io")
    return (host, f"https://{host}", f"https://{host}/v1/", f"https://{host}/v2/")


def _entry(entry: Mapping[str, Any], path: Path) -> Credentials | None:
    user, password = str(entry.get("username") or ""), str(entry.get("password") or "")
    if packed := entry.get("auth"):
        try:
            text = base64.b64decode(str(packed), validate=True).decode()
        except ValueError as error:
            raise BadInput(
                f"The login file {path} has an entry that is not base64.", mend="docker login"
            ) from error
        user, _, password = text.partition(":")
        password = password.rstrip("\0")
    refresh = str(entry.get("identitytoken") or "")
    if not (user or refresh):
        return None
    return Credentials(user=user, password=password, refresh=refresh, origin=str(path))


def _ask_helper(name: str, key: str, env: Mapping[str, str]) -> Credentials | None:
    """Ask `docker-credential-NAME`. None if it does not know the host."""
    if not _HELPER.fullmatch(name):
        raise BadInput(f"The login file names {name!r}, which is no credential helper.")
    program = f"docker-credential-{name}"
    try:
        done = subprocess.run(
            [program, "get"],
            input=key,
            capture_output=True,
            text=True,
            timeout=HELPER_SECONDS,
            env=dict(env),
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise BadInput(
            f"The credential helper {program} cannot be asked: {error}.", mend="docker login"
        ) from error
    if done.returncode:
        return None
    try:
        said = json.loads(done.stdout)
        user, secret = str(said["Username"]), str(said["Secret"])
    except (ValueError, KeyError, TypeError) as error:
        raise BadInput(f"The credential helper {program} answered no credentials.") from error
    if user == "<token>":
        return Credentials(refresh=secret, origin=program)
    return Credentials(user=user, password=secret, origin=program)


def _object(holder: Mapping[str, Any], key: str) -> dict[str, Any]:
    value = holder.get(key)
    return value if isinstance(value, dict) else {}
