"""Files that hold one secret and nothing else."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Final

MAX_BYTES: Final = 16_384


class UnusableSecret(Exception):
    """
    The file will not do.

    Attributes:
        what: what is wrong; never the content.
        remedy: what to do.
    """

    def __init__(self, what: str, remedy: str) -> None:
        super().__init__(f"{what}; {remedy}")
        self.what = what
        self.remedy = remedy


def read_secret(path: Path, *, check_mode: bool = True) -> str:
    """
    The secret in *path*, without the space and line ends around it.

    Call it again to see a rotated key. What is checked and what is read is the same open file.

    Args:
        check_mode: whether group and others must have no rights. systemd hands over its credentials with an
            access list, which shows as rights of the group, in a folder that only the service may enter.

    Raises:
        UnusableSecret: missing, unreadable, a link, not a regular file, open to others, empty, too long, not text.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise _cannot_open(path, error) from error
    except ValueError as error:
        raise UnusableSecret("its path holds a NUL character", "write the path without it") from error
    try:
        _check(path, os.fstat(descriptor), check_mode=check_mode)
        raw = os.read(descriptor, MAX_BYTES + 1)
    finally:
        os.close(descriptor)
    return _text(path, raw)


class RotatingSecret:
    """
    A secret that may change while we run: its file is read again whenever it has changed.

    Args:
        secret: as it was read at the start.
        path: None for a secret that did not come from a file.
        on_new: told of each new secret before anybody gets it, so that it can be masked.
    """

    def __init__(self, secret: str, path: Path | None, on_new: Callable[[str], object] = lambda _: None) -> None:
        self._secret = secret
        self._on_new = on_new
        self._path = path
        self._seen = self._stamp()

    def current(self) -> str:
        """The secret as it is now; the last good one while the file cannot be read. From any thread."""
        stamp = self._stamp()
        if self._path is not None and stamp != self._seen:
            with suppress(UnusableSecret):
                secret = read_secret(self._path, check_mode=False)  # the mode was checked at the start
                self._on_new(secret)
                self._secret, self._seen = secret, stamp
        return self._secret

    def _stamp(self) -> tuple[int, int, int] | None:
        if self._path is None:
            return None
        try:
            found = self._path.stat()
        except OSError:
            return None
        return found.st_ino, found.st_mtime_ns, found.st_size


def _cannot_open(path: Path, error: OSError) -> UnusableSecret:
    if error.errno == errno.ELOOP:
        return UnusableSecret(f"{path} is a symbolic link", "name the file itself")
    if error.errno == errno.ENOENT:
        return UnusableSecret(f"{path} does not exist", "write the secret into it and run chmod 600 on it")
    why = (error.strerror or "unknown error").lower()
    return UnusableSecret(f"{path} cannot be read: {why}", "make it a file that the agent's user owns")


def _check(path: Path, status: os.stat_result, *, check_mode: bool) -> None:
    if not stat.S_ISREG(status.st_mode):
        raise UnusableSecret(f"{path} is not a regular file", "name a file that holds the secret alone")
    mode = stat.S_IMODE(status.st_mode)
    if check_mode and mode & 0o077:
        raise UnusableSecret(f"{path} is open to other users (mode {mode:04o})", f"run chmod 600 {path}")


def _text(path: Path, raw: bytes) -> str:
    if len(raw) > MAX_BYTES:
        raise UnusableSecret(f"{path} holds more than {MAX_BYTES} bytes", "put the secret alone into it")
    try:
        secret = raw.decode("ascii").strip()
    except UnicodeDecodeError as error:
        raise UnusableSecret(f"{path} holds more than plain ASCII", "put the secret alone into it") from error
    if not secret:
        raise UnusableSecret(f"{path} is empty", "write the secret into it")
    if any(not letter.isprintable() or letter.isspace() for letter in secret):
        raise UnusableSecret(f"{path} holds more than one word", "put the secret alone into it")
    return secret
