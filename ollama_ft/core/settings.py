"""Settings: flag > OLLAMA_FT_* > the home's ollama-ft.yaml > default. Each knows who won."""

import difflib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from ollama_ft.core.errors import BadInput
from ollama_ft.core.home import MARKER

DEFAULTS = {
    "host": "",
    "recipe": "",
    "progress": "auto",
    "require_signature": "no",
    "embedder": "all-minilm:22m",
    "gate": "default",
}
MEANINGS = {
    "host": "The runtime's address; empty = OLLAMA_HOST, then the default, then embedded.",
    "recipe": "The recipe for `new` and `train`; empty = the one the base's family names.",
    "progress": "auto | plain | json | none",
    "require_signature": "yes: `import` and `pull` take only what a trusted key signed.",
    "embedder": "The embedding model that `knowledge add` uses.",
    "gate": "When a version may go live: a gate's name, or a YAML file.",
}
WORDS = {"progress": ("auto", "plain", "json", "none"), "require_signature": ("yes", "no")}
YES_OR_NO = {"true": "yes", "1": "yes", "on": "yes", "false": "no", "0": "no", "off": "no"}
_KNOWN = f"a line for each of: {', '.join(DEFAULTS)}"


@dataclass(frozen=True, kw_only=True)
class Setting:
    """One value and where it came from."""

    key: str
    value: str
    origin: str


def load_settings(
    home: Path, env: Mapping[str, str], flags: Mapping[str, str | None]
) -> dict[str, Setting]:
    """All settings, each with its origin.

    Raises BadInput for a key that there is not, and for a word that a setting does not take.
    """
    from_file = _read(home / MARKER)
    settings = {}
    for key, default in DEFAULTS.items():
        variable = f"OLLAMA_FT_{key.upper()}"
        if (flag := flags.get(key)) is not None:
            settings[key] = Setting(key=key, value=flag, origin="flag")
        elif variable in env:
            settings[key] = Setting(key=key, value=env[variable], origin=variable)
        elif key in from_file:
            settings[key] = Setting(key=key, value=from_file[key], origin=str(home / MARKER))
        else:
            settings[key] = Setting(key=key, value=default, origin="default")
    return {key: _check(setting) for key, setting in settings.items()}


def _read(path: Path) -> dict[str, str]:
    if not path.is_file():
        return {}
    from ruamel.yaml import YAML
    from ruamel.yaml.comments import CommentedMap
    from ruamel.yaml.error import YAMLError

    try:
        loaded = YAML(typ="rt").load(path.read_text(encoding="utf-8"))
    except (YAMLError, UnicodeDecodeError) as error:
        raise BadInput(
            f"{path} is not YAML: {' '.join(str(error).split())}", mend="mend it, or move it away"
        ) from error
    if loaded is None:
        return {}
    if not isinstance(loaded, CommentedMap):
        raise BadInput(f"{path} must hold `key: value` lines.", mend=_KNOWN)
    found = {}
    for key, value in loaded.items():
        where = f"{path}, line {loaded.lc.key(key)[0] + 1}"
        if key not in DEFAULTS:
            near = difflib.get_close_matches(str(key), DEFAULTS, n=1)
            hint = f" Did you mean {near[0]!r}?" if near else ""
            raise BadInput(f"{where}: {key!r} is no setting.{hint}", mend=_KNOWN)
        if isinstance(value, dict | list):
            raise BadInput(f"{where}: {key} takes one word.", mend=f"{key}: {DEFAULTS[key]}")
        found[key] = _word(value)
    return found


def _word(value: object) -> str:
    if value is None:
        return ""
    return {True: "yes", False: "no"}[value] if isinstance(value, bool) else str(value)


def _check(setting: Setting) -> Setting:
    """The setting, its words in lower case where only some are allowed. Raises BadInput."""
    allowed = WORDS.get(setting.key)
    if allowed is None:
        return setting
    said = setting.value.strip().lower()
    value = YES_OR_NO.get(said, said)
    if value and value not in allowed:
        raise BadInput(
            f"{setting.origin}: {setting.key} = {setting.value!r} is none of {', '.join(allowed)}.",
            mend=f"{setting.key}: {DEFAULTS[setting.key]}",
        )
    return replace(setting, value=value or DEFAULTS[setting.key])
