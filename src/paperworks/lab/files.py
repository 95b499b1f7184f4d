"""Writing a file so that a full disk or a kill leaves the earlier one intact."""

import contextlib
import errno
import os
import tempfile
from pathlib import Path

from paperworks.errors import PaperworksError


def write_text(path: Path, text: str) -> None:
    """Write `text` to `path` in one move.

    Raises:
        PaperworksError: the folder cannot be made, or the disk is full; what was there before stays.
    """
    temporary = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except OSError as error:
        if temporary:
            with contextlib.suppress(OSError):
                os.unlink(temporary)
        full = error.errno in (errno.ENOSPC, errno.EFBIG, errno.EDQUOT)
        advice = "make room and run the same command again" if full else "give a folder that can be written"
        raise PaperworksError(f"{path} cannot be written: {error.strerror}; {advice}") from error
