"""What a wheel carries: the texts that the program reads lie inside it."""

import subprocess
import sys
import zipfile
from pathlib import Path

ROOT = Path(__file__).parent.parent


def test_a_wheel_carries_bases_recipes_modelfiles_data_and_templates(tmp_path):
    pip = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation"]
    subprocess.run([*pip, "--no-index", "-w", str(tmp_path), str(ROOT)], check=True)
    (wheel,) = tmp_path.glob("*.whl")
    names = set(zipfile.ZipFile(wheel).namelist())
    for folder in ("registry/bases", "registry/recipes", "modelfiles", "data"):
        for path in (ROOT / folder).iterdir():
            assert f"ollama_ft/shipped/{folder}/{path.name}" in names
    for path in (ROOT / "ollama_ft/runtime/templates/builtin").iterdir():
        assert f"ollama_ft/runtime/templates/builtin/{path.name}" in names
