"""Every error that ollama-ft raises on purpose. Library code raises these; only cli/ shows them.

FtError                     exit code 1: something that was asked for could not be done
├── NotFound                1  a family, version, dataset or file that is not there
├── Conflict                1  it exists already with other content, or is being worked on
├── NothingToRollBack       1  the live version is the first one
├── ProofFailed             1  what is served is not what was trained
├── BadInput                2  a file, value, recipe or reference that the user can correct
│   ├── BadWeights          2  a GGUF or adapter that is damaged, hostile or of an unknown kind
│   └── Unsupported         2  well-formed, but a kind that ollama-ft does not handle
├── GateFailed              3  the candidate is not good enough; it is kept, not promoted
├── NotEnoughData           4  too little to decide, or to train on
├── RuntimeUnavailable      5  no runtime answers, or it is too old
│   └── RuntimeRefused      5  the runtime answered with an error
├── OutOfResources          6  memory or disk
├── Stopped                 7  the watchdog ended a training; the best checkpoint is kept
└── Interrupted           130  the user pressed Ctrl-C; the checkpoint is kept

Anything else that escapes is a bug, and keeps its traceback.
"""

from typing import ClassVar


class FtError(Exception):
    """Base class. The message says what is so and why; `mend` is the command that helps."""

    exit_code: ClassVar[int] = 1

    def __init__(self, message: str, *, mend: str = "") -> None:
        super().__init__(message)
        self.mend = mend


class NotFound(FtError):
    """A family, version, dataset or file that is not there."""


class Conflict(FtError):
    """It exists already with other content, or somebody is working on it."""


class NothingToRollBack(FtError):
    """The live version is the first one, or no version is live."""


class ProofFailed(FtError):
    """What is served is not what was trained. The version is kept and marked; nothing is live."""


class BadInput(FtError):
    """A file, value, recipe or reference that the user can correct."""

    exit_code = 2


class BadWeights(BadInput):
    """A GGUF or adapter file that is damaged, hostile or of an unknown kind."""


class Unsupported(BadInput):
    """Well-formed, but of a kind that ollama-ft does not handle; the message names the kind."""


class GateFailed(FtError):
    """The candidate is not good enough to replace the live version; it is kept."""

    exit_code = 3


class NotEnoughData(FtError):
    """Too little data to train on, or to decide by."""

    exit_code = 4


class RuntimeUnavailable(FtError):
    """No runtime answers at the address, or the one that does is too old."""

    exit_code = 5


class RuntimeRefused(RuntimeUnavailable):
    """The runtime answered with an error; `status` is its HTTP status (0: inside a stream)."""

    def __init__(self, message: str, *, status: int = 0, mend: str = "") -> None:
        super().__init__(message, mend=mend)
        self.status = status


class OutOfResources(FtError):
    """Not enough memory or disk."""

    exit_code = 6


class Stopped(FtError):
    """The watchdog ended a training (NaN, exploding loss); the best checkpoint is kept."""

    exit_code = 7


class Interrupted(FtError):
    """The user pressed Ctrl-C; the checkpoint is kept and the message says how to resume."""

    exit_code = 130
