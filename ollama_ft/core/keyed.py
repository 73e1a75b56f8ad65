"""Texts of `key: value` lines, checked against a model: recipes, gates.

A mistake is told with its file, its line and the nearest key that there is.
"""

import difflib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from ollama_ft.core.errors import BadInput, NotFound

M = TypeVar("M", bound=BaseModel)


def load_keyed(
    kind: type[M], word: str, name: str, folders: list[Path], changes: Mapping[str, str], mend: str
) -> M:
    """Read the text `name` (from the first folder that has it, or a path), then apply `changes`.

    `word` is what such a text is called in messages, `mend` the command that shows its keys.
    `changes` are --set key=value pairs; their values are read as YAML.

    Raises NotFound, or BadInput that names the file, the line and the nearest key.
    """
    path = _find(word, name, folders, mend)
    values, lines = _read(path, mend)
    for key, text in changes.items():
        values[key] = _change(key, text)
        lines.pop(key, None)
    try:
        return kind(**values)
    except ValidationError as error:
        raise _first_problem(kind, word, path, error, lines, mend) from error


def _find(word: str, name: str, folders: list[Path], mend: str) -> Path:
    if "/" in name or name.endswith((".yaml", ".yml")):
        path = Path(name).expanduser()
        if path.is_file():
            return path
        raise NotFound(f"There is no {word} file {name}.", mend=mend)
    for folder in folders:
        if (path := folder / f"{name}.yaml").is_file():
            return path
    known = sorted({p.stem for folder in folders for p in folder.glob("*.yaml")})
    raise NotFound(f"There is no {word} {name!r}. Known: {', '.join(known)}.")


def _read(path: Path, mend: str) -> tuple[dict[str, Any], dict[str, int]]:
    from ruamel.yaml import YAML
    from ruamel.yaml.comments import CommentedMap
    from ruamel.yaml.error import YAMLError

    try:
        loaded = YAML(typ="rt").load(path.read_text(encoding="utf-8"))
    except (YAMLError, UnicodeDecodeError) as error:
        raise BadInput(f"{path} is not YAML: {' '.join(str(error).split())}") from error
    if loaded is None:
        return {}, {}
    if not isinstance(loaded, CommentedMap):
        raise BadInput(f"{path} must hold `key: value` lines.", mend=mend)
    lines = {str(key): loaded.lc.key(key)[0] + 1 for key in loaded}
    return {str(key): value for key, value in loaded.items()}, lines


def _change(key: str, text: str) -> Any:
    from ruamel.yaml.error import YAMLError

    try:
        return scalar(text)
    except YAMLError as error:
        raise BadInput(
            f"--set {key}={text}: not YAML.", mend=f"--set {key}='[one, two]', or --set {key}=word"
        ) from error


def scalar(text: str) -> Any:
    """What a YAML text stands for: a number, a word, a list; a mapping as a dict."""
    from ruamel.yaml import YAML

    return YAML(typ="safe", pure=True).load(text)


def _first_problem(
    kind: type[BaseModel],
    word: str,
    path: Path,
    error: ValidationError,
    lines: Mapping[str, int],
    mend: str,
) -> BadInput:
    problem = error.errors()[0]
    key = str(problem["loc"][0])
    where = f"{path}, line {lines[key]}" if key in lines else f"--set {key}"
    if problem["type"] == "extra_forbidden":
        near = difflib.get_close_matches(key, kind.model_fields, n=1)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        return BadInput(f"{where}: {key!r} is no key of a {word}.{hint}", mend=mend)
    return BadInput(f"{where}: {key} = {problem['input']!r}: {problem['msg'].lower()}.", mend=mend)
