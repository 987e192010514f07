"""Whether a folder can be written, or created if missing."""

from __future__ import annotations

import errno
import os
import stat
import tempfile
from pathlib import Path
from typing import Final

# Errors of a disk or of a network file system that fails: another try, perhaps on another machine, may succeed.
DISK_FAILS: Final = frozenset(
    (errno.EIO, errno.ESTALE, errno.ENODEV, errno.ENXIO, errno.ENOTCONN, errno.ESHUTDOWN, errno.ETIMEDOUT, errno.EREMOTEIO)
)


def unwritable(folder: Path) -> str | None:
    """Why ``folder`` is not writable; None if it is. Creates and removes an empty folder to find out."""
    try:
        nearest = next(path for path in (folder, *folder.parents) if os.path.lexists(path))
        if not nearest.exists():
            return f"{nearest} is a link to {nearest.readlink()}, which does not exist"
        if not nearest.is_dir():
            return f"{nearest} is a file, not a folder"
        if not os.access(nearest, os.W_OK | os.X_OK):
            return _refused(nearest)
        Path(tempfile.mkdtemp(prefix=".dpo-launcher-", dir=nearest)).rmdir()
    except OSError as error:
        return f"{error.filename or folder}: {(error.strerror or str(error)).lower()}"
    return None


def _refused(folder: Path) -> str:
    """Why the system refuses to write to ``folder``."""
    if os.statvfs(folder).f_flag & os.ST_RDONLY:
        return f"{folder}: {os.strerror(errno.EROFS).lower()}"
    found = folder.stat()
    owner = f"it belongs to {found.st_uid}:{found.st_gid} with mode {stat.S_IMODE(found.st_mode):o}"
    return f"{folder}: permission denied ({owner}; you are {os.geteuid()}:{os.getegid()})"
