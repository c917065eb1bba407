"""
Files with keys: to sign with, or to check signatures by.

| a file that holds | signs | checks | algorithm |
|---|---|---|---|
| a private key of Ed25519, PEM | yes | no | Ed25519 |
| a public key of Ed25519, PEM | no | yes | Ed25519 |
| a secret: one word of 32 letters or more | yes | yes | HS256 |

The key says which algorithm is used, never what was signed with it: else a public key could be taken for a secret.
"""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

ED25519: Final = "Ed25519"
HS256: Final = "HS256"
LEAST_SECRET_LETTERS: Final = 32
MAX_BYTES: Final = 16_384


class UnusableKey(Exception):
    """A key file will not do; the message says why, and nothing of its content."""


@dataclass(frozen=True)
class Key:
    """
    Attributes:
        content: PEM, or the secret itself.
    """

    algorithm: str
    content: str = field(repr=False)
    is_private: bool

    @property
    def is_secret(self) -> bool:
        """Whether who reads it can sign."""
        return self.is_private or self.algorithm == HS256


def read_key(path: Path, *, to_sign: bool) -> Key:
    """
    The key in *path*. Read again for each signature, so that a key that was taken out is not believed any longer.

    Args:
        to_sign: whether a signature is to be made, or to be checked.

    Raises:
        UnusableKey: it cannot be read, is none, is of the other kind, or others may write it or read its secret.
    """
    mode, text = _content(path)
    key = _key(path, text)
    if key.algorithm == ED25519 and key.is_private != to_sign:
        wanted, what = ("private", "sign with") if to_sign else ("public", "check signatures by")
        raise UnusableKey(f"{path} does not hold a {wanted} key; name a file that does, to {what}")
    if mode & 0o022:
        raise UnusableKey(f"{path} can be written by other users (mode {mode:04o}); run chmod go-w {path}")
    if key.is_secret and mode & 0o077:
        raise UnusableKey(f"{path} is open to other users (mode {mode:04o}); run chmod 600 {path}")
    return key


def _content(path: Path) -> tuple[int, str]:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            found = os.fstat(descriptor)
            raw = os.read(descriptor, MAX_BYTES + 1) if stat.S_ISREG(found.st_mode) else b""
        finally:
            os.close(descriptor)
    except (OSError, ValueError) as error:
        raise UnusableKey(f"{path} cannot be read: {getattr(error, 'strerror', None) or 'no such path'}") from error
    if not 0 < len(raw) <= MAX_BYTES or not raw.isascii():
        raise UnusableKey(f"{path} is not a file that holds one key; see docs/security.md")
    return stat.S_IMODE(found.st_mode), raw.decode("ascii").strip()


def _key(path: Path, text: str) -> Key:
    if text.startswith("-----BEGIN PUBLIC KEY-----"):
        return Key(ED25519, text, is_private=False)
    if text.startswith("-----BEGIN PRIVATE KEY-----"):
        return Key(ED25519, text, is_private=True)
    if len(text) < LEAST_SECRET_LETTERS or not text.isprintable() or " " in text:
        raise UnusableKey(
            f"{path} holds neither a key in PEM nor a secret of {LEAST_SECRET_LETTERS} letters or more; "
            "docs/security.md says how to make one"
        )
    return Key(HS256, text, is_private=False)
