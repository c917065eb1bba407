"""Whether a job's signature will do on this host."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from overmind_agent.errors import JobError
from overmind_agent.jobs import Job, RemoteFile
from overmind_agent.signing.claims import Work
from overmind_agent.signing.jws import NotSigned, signed
from overmind_agent.signing.keys import Key, UnusableKey, read_key

# Clocks of hosts differ.
LEEWAY_S: Final = 300.0


class SignatureRejected(JobError):
    """The job does not bear a signature that this host accepts."""

    reason = "signature_rejected"


@dataclass(frozen=True)
class Signatures:
    """
    What this host asks of signatures.

    Attributes:
        mode: `off`, `warn` or `block`.
        key_files: of the keys that are accepted, by name; several at a time, so that one can follow the other.
        now_s: the time of day, seconds since 1970.
    """

    mode: str = "off"
    key_files: Mapping[str, Path] = field(default_factory=dict)
    now_s: Callable[[], float] = time.time

    def admit(self, job: Job, input_file: RemoteFile | None, *, is_begun: bool) -> str | None:
        """
        Let *job*, which is to work on *input_file*, pass; returns what is wrong with its signature where that is
        only to be told, else None.

        Args:
            is_begun: whether the host has begun with it before: then its signature may have expired meanwhile.

        Raises:
            SignatureRejected: it may not pass.
        """
        if self.mode == "off":
            return None
        try:
            self._check(job, input_file, is_begun=is_begun)
        except NotSigned as error:
            if self.mode == "warn":
                return str(error)
            raise SignatureRejected(str(error)) from error
        return None

    def _check(self, job: Job, input_file: RemoteFile | None, *, is_begun: bool) -> None:
        if job.signature is None:
            raise NotSigned("the job is not signed")
        key_name, expires_at, claims = signed(job.signature, self._key)
        if not is_begun and self.now_s() > expires_at + LEEWAY_S:
            raise NotSigned(f"the signature by {key_name!r} has expired; sign the job again")
        offered = Work.of(job, input_file).claims()
        unlike = sorted(
            name
            for name in {*offered, *claims}
            if name not in claims or name not in offered or offered[name] != claims[name]
        )
        if unlike:
            raise NotSigned(f"what {key_name!r} signed differs in {', '.join(map(_plain, unlike))}")

    def _key(self, name: str) -> Key:
        if (path := self.key_files.get(name)) is None:
            raise UnusableKey(f"it is of a key {name[:64]!r}, which policy.signing_keys does not name")
        return read_key(path, to_sign=False)


def _plain(name: str) -> str:
    """A name that somebody signed may be anything."""
    return name if name.isidentifier() and len(name) <= 64 else repr(name[:64])
