"""
Blobs in a folder, and the URLs by which they come and go.

A blob's name is the hex SHA-384 of its bytes and a salt. The salt comes later, with the revision that names the
blob, so what was uploaded is checked then and not before.
"""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import os
import secrets
import shutil
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO, Final

from overmind_controlplane.refusals import Forbidden

URL_TTL_S: Final = 3600
# What a server that died was just receiving, and parts that nobody sends more of: an agent may be away for days.
KEEP_INCOMING_S: Final = 7 * 86_400
_CHUNK: Final = 1 << 20
_KEY_BYTES: Final = 32
# Small blobs that are written together.
_MOST_OPEN: Final = 32


@dataclass(frozen=True)
class Measured:
    """What a blob turned out to be: bytes, and hex digests of it alone and of it with its salt."""

    size: int
    sha256: str
    sha384_salted: str


class Blobs:
    """
    The folder. Each project has its own part of it: a blob of another project is not there.

    Safe to use from any thread and process: a blob appears in one step, whole, or not at all. One that is what a
    revision says of it stays as it is: whoever knows its name can neither replace it nor have it removed.

    Args:
        salts_of: by project and sha, the salts with which revisions name that blob.
    """

    def __init__(
        self, folder: Path, salts_of: Callable[[str, str], Collection[str]] = lambda _project, _sha: ()
    ) -> None:
        self._folder = folder
        self._salts_of = salts_of
        self.incoming = folder / "incoming"
        self.incoming.mkdir(parents=True, exist_ok=True)

    def path(self, project_id: str, sha: str) -> Path:
        """Where the blob is, or would be. *sha* must have been checked to be hex."""
        return self._folder / project_id / sha[:2] / sha

    def has(self, project_id: str, sha: str) -> bool:
        """Whether the blob is there."""
        return self.path(project_id, sha).is_file()

    @contextmanager
    def receive(self, project_id: str, sha: str) -> Iterator[BinaryIO]:
        """
        A file to write the blob into; it takes its place when the block ends, and goes when the block raises, or
        when a revision names the blob that is there already.
        """
        waiting = self.incoming / secrets.token_hex(16)
        try:
            with waiting.open("xb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            if not (self.has(project_id, sha) and self._salts_of(project_id, sha)):
                _sync_folder(self._put_in_place(waiting, project_id, sha))
        finally:
            waiting.unlink(missing_ok=True)

    def put_all(self, project_id: str, blobs: Mapping[str, bytes]) -> None:
        """
        Store small *blobs* by their sha.

        All are written before the first is waited for, and all are in their places before the first folder is: the
        journal of the file system takes the others along with the first, and then little is left to do.
        """
        found = list(blobs.items())
        for start in range(0, len(found), _MOST_OPEN):
            self._put_some(project_id, dict(found[start : start + _MOST_OPEN]))

    def _put_some(self, project_id: str, blobs: Mapping[str, bytes]) -> None:
        waiting = {sha: self.incoming / secrets.token_hex(16) for sha in blobs}
        try:
            with ExitStack() as written:
                files = {sha: written.enter_context(path.open("xb")) for sha, path in waiting.items()}
                for sha, file in files.items():
                    file.write(blobs[sha])
                    file.flush()
                for file in files.values():
                    os.fsync(file.fileno())
            for folder in {self._put_in_place(path, project_id, sha) for sha, path in waiting.items()}:
                _sync_folder(folder)
        except BaseException:
            for path in waiting.values():
                path.unlink(missing_ok=True)
            raise

    def _put_in_place(self, waiting: Path, project_id: str, sha: str) -> Path:
        """Give the blob in *waiting*, which is synced, its name; returns the folder that it is in, to be synced."""
        place = self.path(project_id, sha)
        place.parent.mkdir(parents=True, exist_ok=True)
        waiting.replace(place)
        return place.parent

    def measure(self, project_id: str, sha: str, salt: str) -> Measured:
        """
        Read the whole blob.

        Raises:
            FileNotFoundError: it is not there.
        """
        salted, plain, size = hashlib.sha384(), hashlib.sha256(), 0
        with self.path(project_id, sha).open("rb") as file:
            while chunk := file.read(_CHUNK):
                salted.update(chunk)
                plain.update(chunk)
                size += len(chunk)
        salted.update(salt.encode("ascii"))
        return Measured(size, plain.hexdigest(), salted.hexdigest())

    def read(self, project_id: str, sha: str, *, limit: int) -> bytes | None:
        """The blob's bytes; None when it is not there or longer than *limit*."""
        try:
            with self.path(project_id, sha).open("rb") as file:
                data = file.read(limit + 1)
        except FileNotFoundError:
            return None
        return data if len(data) <= limit else None

    def prune(self, *, now_s: float | None = None) -> None:
        """Throw away what began to arrive and has not grown for a week; *now_s* is the wall clock's time."""
        oldest_s = (time.time() if now_s is None else now_s) - KEEP_INCOMING_S
        for path in [*self.incoming.iterdir(), *self.incoming.glob("*/*")]:
            with contextlib.suppress(FileNotFoundError):
                if path.is_file() and path.stat().st_mtime < oldest_s:
                    path.unlink()
                elif path.parent != self.incoming and path.stat().st_mtime < oldest_s:
                    shutil.rmtree(path)

    def share(self, project_id: str, sha: str, with_project: str) -> None:
        """Let another project have the blob too; nothing happens when it has it, or when there is none."""
        place = self.path(with_project, sha)
        place.parent.mkdir(parents=True, exist_ok=True)
        with contextlib.suppress(FileExistsError, FileNotFoundError):
            place.hardlink_to(self.path(project_id, sha))
            _sync_folder(place.parent)

    def discard(self, project_id: str, sha: str) -> None:
        """Remove a blob that turned out not to be what its name says, so that it can be uploaded again."""
        salts = set(self._salts_of(project_id, sha))
        with contextlib.suppress(FileNotFoundError):
            if not any(self.measure(project_id, sha, salt).sha384_salted == sha for salt in salts):
                self.path(project_id, sha).unlink()


class Signer:
    """
    Makes and checks the queries of blob URLs. A URL is a capability: whoever has it may use it until it expires.

    Its key lies in a file, so that URLs outlive a restart.
    """

    def __init__(self, key_file: Path) -> None:
        self._key = _read_or_make(key_file)

    def sign(self, verb: str, project_id: str, sha: str, *, part: str = "") -> tuple[dict[str, str], datetime]:
        """The query that allows *verb* (`PUT` or `GET`) on the blob, and when it ends."""
        expires = int(time.time()) + URL_TTL_S
        query = {"project": project_id, "part": part, "expires": str(expires)}
        query["signature"] = self._signature(verb, sha, query)
        return {name: value for name, value in query.items() if value}, datetime.fromtimestamp(expires, UTC)

    def check(self, verb: str, sha: str, query: dict[str, str]) -> None:
        """
        Raises:
            Forbidden: the query does not allow it, or no longer.
        """
        expected = self._signature(verb, sha, query)
        if not hmac.compare_digest(expected.encode(), query.get("signature", "").encode()):
            raise Forbidden("the signature of this address is wrong")
        if int(query["expires"]) < time.time():
            raise Forbidden("this address has expired; ask for a new one")

    def mac(self, purpose: str, *parts: str) -> str:
        """What nobody else can say about *parts*, hex. With another *purpose* it is another."""
        return hmac.new(self._key, "\n".join((purpose, *parts)).encode(), hashlib.sha256).hexdigest()

    def _signature(self, verb: str, sha: str, query: dict[str, str]) -> str:
        return self.mac(verb, sha, *(query.get(name, "") for name in ("project", "part", "expires")))


def _read_or_make(key_file: Path) -> bytes:
    try:
        descriptor = os.open(key_file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        return key_file.read_bytes()
    key = secrets.token_bytes(_KEY_BYTES)
    with os.fdopen(descriptor, "wb") as file:
        file.write(key)
    return key


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
