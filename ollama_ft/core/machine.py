"""What the machine says no to, as an error that says what mends it: a full disk, a folder that
may not be written, a database that is locked or damaged, too little memory."""

import errno
import sqlite3

from ollama_ft.core.errors import BadInput, Conflict, FtError, NotFound, OutOfResources

_FULL = (errno.ENOSPC, errno.EDQUOT)
_NOT_ALLOWED = (errno.EACCES, errno.EPERM, errno.EROFS)
_NO_SUCH_PLACE = (errno.ENOTDIR, errno.EEXIST, errno.EISDIR, errno.ENAMETOOLONG)
_ELSEWHERE = "keep everything elsewhere: --home FOLDER, or OLLAMA_FT_HOME"
_ROOM = "make room on the disk (ollama-ft gc says what may go), then the same command again"


def refusal(error: BaseException, where: str = "") -> FtError | None:
    """The error that an OSError, MemoryError or sqlite3.Error stands for; None if it is a bug.

    `where` names the file, where the error itself does not.
    """
    if isinstance(error, sqlite3.Error):
        return _of_sqlite(error, where or "a database of the home")
    if isinstance(error, MemoryError):
        return OutOfResources("There is not enough memory for this.")
    return _of_files(error) if isinstance(error, OSError) else None


def _of_sqlite(error: sqlite3.Error, file: str) -> FtError | None:
    name = getattr(error, "sqlite_errorname", None) or ""  # "SQLITE_IOERR_WRITE"
    what = f"{file} cannot be used: {error}."
    match name.removeprefix("SQLITE_").partition("_")[0]:
        case "BUSY" | "LOCKED":
            return Conflict(
                what, mend="wait for the other command, or end it; then the same command again"
            )
        case "FULL" | "IOERR":
            return OutOfResources(what, mend=_ROOM)
        case "READONLY" | "CANTOPEN" | "PERM":
            return BadInput(f"{what} Even to look into it, it is written.", mend=_ELSEWHERE)
        case "NOTADB" | "CORRUPT":
            return BadInput(
                f"{file} is damaged, or no database at all: {error}.",
                mend="bring it back from a copy; or move it, and its -wal and -shm, away and "
                "start anew",
            )
    return None


def _of_files(error: OSError) -> FtError | None:
    file = error.filename
    if error.errno in _FULL:
        return OutOfResources(f"The disk is full{f': {file}' if file else ''}.", mend=_ROOM)
    if file is None:
        return None
    if error.errno in _NOT_ALLOWED:
        return BadInput(f"{file} may not be read or written: {error.strerror}.", mend=_ELSEWHERE)
    if error.errno in _NO_SUCH_PLACE:
        return BadInput(f"{file} cannot be used: {error.strerror}.", mend=_ELSEWHERE)
    if error.errno == errno.ENOENT:
        return NotFound(f"{file} is not there.", mend="bring it back from a copy; ollama-ft doctor")
    return None
