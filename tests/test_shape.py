"""The shape of the code, kept by tests: sizes, stage headers, cheap help."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "ollama_ft"
FILES = sorted(PACKAGE.rglob("*.py"))
FORBIDDEN = {"utils.py", "common.py", "helpers.py", "constants.py"}


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_files_and_functions_stay_small(path):
    source = path.read_text()
    assert source.count("\n") <= 400, "split this room in two"
    assert path.name not in FORBIDDEN
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            assert node.end_lineno - node.lineno < 60, f"{node.name} is too long"


@pytest.mark.parametrize(
    "path", [p for p in FILES if p.read_text().strip()], ids=lambda p: str(p.relative_to(PACKAGE))
)
def test_modules_begin_by_saying_what_they_are(path):
    assert ast.get_docstring(ast.parse(path.read_text()))


@pytest.mark.parametrize("path", sorted(PACKAGE.glob("stages/[a-z]*.py")), ids=lambda p: p.stem)
def test_stages_say_what_they_read_and_write(path):
    doc = ast.get_docstring(ast.parse(path.read_text()))
    assert "\nReads:" in doc and "\nWrites:" in doc


HEAVY = ("torch", "transformers", "peft", "pandas", "numpy", "xllamacpp", "starlette")


@pytest.mark.parametrize(
    "command",
    [["--help"], ["list"], ["history"], ["show"], ["rollback", "--dry-run"], ["config", "show"]],
    ids=" ".join,
)
def test_a_look_imports_nothing_heavy(command, tmp_path):
    code = f"""
import sys
from ollama_ft.cli.app import cli
try:
    cli.main(["--home", {str(tmp_path)!r}, *{command!r}], standalone_mode=False)
except SystemExit:
    pass
heavy = [name for name in {HEAVY!r} if name in sys.modules]
sys.exit(f"imported: {{heavy}}" if heavy else 0)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_the_loop_loads_where_no_extra_is_installed():
    code = (
        "import sys, ollama_ft.loop;"
        f"heavy = [n for n in {(*HEAVY, 'gguf', 'tokenizers')!r} if n in sys.modules];"
        "sys.exit(f'imported: {heavy}' if heavy else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
