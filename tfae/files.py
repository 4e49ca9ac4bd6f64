"""Files that are written whole or not at all."""

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import mkstemp


@contextmanager
def written_whole(path: str | Path) -> Iterator[Path]:
    """Yield a temporary file that takes the name `path` only if the block succeeds.

    A reader of `path` sees the old file or the new one, never a part, whatever interrupts the writer. The
    temporary file lies in the same directory, so that giving it its name is one step of the file system.

    Raises
    ------
    OSError
        If `path` is a directory, the directory around it cannot be written, or the disk is full. The message names the
        directory.
    """
    path = Path(path)
    if path.is_dir():
        raise IsADirectoryError(errno.EISDIR, f"{path} is a directory. Give the name of a file in it")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, name = mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=path.suffix)
    except OSError as error:
        raise OSError(
            error.errno, f"cannot write in {path.parent}: {error.strerror}. Choose a directory that you may write to"
        ) from error
    os.close(descriptor)
    temporary = Path(name)
    try:
        yield temporary
        _flush_to_disk(temporary)
        temporary.chmod(0o666 & ~_umask())  # mkstemp makes files that only their owner can read
        os.replace(temporary, path)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise OSError(
                error.errno, f"no room for {path.name} in {path.parent}: {error.strerror}. Nothing was changed there"
            ) from error
        raise
    finally:
        temporary.unlink(missing_ok=True)


def _flush_to_disk(path: Path) -> None:
    descriptor = os.open(path, os.O_RDWR)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
