"""Documents read in a process apart, so that a hostile file costs that process and nothing else."""

import contextlib
import json
import os
import subprocess
import sys
import threading
from pathlib import Path
from types import TracebackType
from typing import Self

import ollama_ft
from ollama_ft.core.errors import BadInput, Unsupported
from ollama_ft.kinds.readers import kind_of
from ollama_ft.kinds.readers.block import Block

SECONDS = 120.0  # for one document


class ReadingRoom:
    """Reads one document after the other. A context manager; its process ends with it."""

    def __init__(self, seconds: float = SECONDS) -> None:
        self._seconds = seconds
        self._process: subprocess.Popen[str] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._end()

    def read(self, path: Path) -> list[Block]:
        """The document's blocks, in reading order.

        Raises Unsupported for a kind of file that nobody reads or whose parser is not installed,
        BadInput for a file that cannot be read within the bounds on memory and time.
        """
        asked = json.dumps({"kind": kind_of(path), "path": str(path)})
        said = self._ask(asked)
        if not said:
            raise BadInput(
                f"{path}: it took more than {self._seconds:.0f} seconds or too much memory to read."
            )
        answer = json.loads(said)
        if "No module named" in answer.get("error", ""):
            raise Unsupported(
                f"{path}: {answer['error']}", mend="pip install 'ollama-ft[knowledge]'"
            )
        if "error" in answer:
            raise BadInput(f"{path}: {answer['error']}", mend=answer["mend"])
        return [Block(**block) for block in answer["blocks"]]

    def _ask(self, line: str) -> str:
        """One line of answer; "" if the process died over it, or had to be ended."""
        process = self._process or self._start()
        assert process.stdin is not None and process.stdout is not None
        clock = threading.Timer(self._seconds, process.kill)
        clock.start()
        try:
            process.stdin.write(line + "\n")
            process.stdin.flush()
            said = process.stdout.readline()
        except BrokenPipeError:
            said = ""
        finally:
            clock.cancel()
        if not said.endswith("\n"):
            self._end()
            return ""
        return said

    def _start(self) -> "subprocess.Popen[str]":
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", "ollama_ft.kinds.readers.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            encoding="utf-8",
            env=os.environ | {"PYTHONPATH": _path(), "PYTHONUTF8": "1"},
        )
        return self._process

    def _end(self) -> None:
        if (process := self._process) is None:
            return
        self._process = None
        assert process.stdin is not None and process.stdout is not None
        process.kill()
        process.wait()
        process.stdout.close()
        with contextlib.suppress(BrokenPipeError):
            process.stdin.close()


def _path() -> str:
    """Ours, with the folder that this package lies in first: a checkout may be on no path."""
    parent = str(Path(ollama_ft.__file__).parent.parent)
    known = os.environ.get("PYTHONPATH", "")
    return f"{parent}{os.pathsep}{known}" if known else parent
