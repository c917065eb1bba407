"""Calls that are safe to repeat: what was granted under which key, for a week."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection
from datetime import timedelta
from typing import Any, Final

from sqlalchemy import bindparam, delete, select, tuple_
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from overmind_controlplane.record.appending import append
from overmind_controlplane.record.tables import IdempotencyKey, now
from overmind_controlplane.refusals import Unavailable, wrong

KEPT_FOR: Final = timedelta(days=7)
"""Longer than the longest outage that an agent is promised to survive."""


_OF_KEYS: Final = select(IdempotencyKey).where(
    tuple_(IdempotencyKey.scope, IdempotencyKey.key).in_(bindparam("keys", expanding=True))
)


def digest(*asked: Any) -> str:
    """Of what was asked: the same for the same JSON values."""
    return hashlib.sha256(json.dumps(asked, sort_keys=True, ensure_ascii=True).encode()).hexdigest()


def find(session: Session, scope: str, key: str, asked: str) -> IdempotencyKey | None:
    """
    What was granted under *key*, None when nothing was.

    Args:
        asked: the digest of this call.

    Raises:
        Invalid: the key was used for another call.
    """
    return same(find_all(session, {(scope, key)}).get((scope, key)), asked)


def find_all(session: Session, keys: Collection[tuple[str, str]]) -> dict[tuple[str, str], IdempotencyKey]:
    """What was granted under each of these scopes and keys; those under which nothing was are left out."""
    if not keys:
        return {}
    return {(granted.scope, granted.key): granted for granted in session.scalars(_OF_KEYS, {"keys": list(keys)})}


def same(granted: IdempotencyKey | None, asked: str) -> IdempotencyKey | None:
    """
    What was granted, if it was for this call.

    Raises:
        Invalid: the key was used for another call.
    """
    if granted is not None and granted.digest != asked:
        raise wrong("this key was used for another call", "header", "Idempotency-Key")
    return granted


def keep(session: Session, scope: str, key: str, asked: str, *, made: str, attempt: int = 0) -> None:
    """Remember what was granted; `settle` belongs to it."""
    granted = {"scope": scope, "key": key, "digest": asked, "made": made, "attempt": attempt}
    append(session, IdempotencyKey, granted)


def settle(session: Session) -> None:
    """
    Write what was kept, and everything else that waits to be written.

    Raises:
        Unavailable: another call with one of the keys was granted at the same moment.
    """
    try:
        session.flush()
    except IntegrityError as error:
        raise Unavailable("a call with this key is just being answered; repeat it") from error


def prune(session: Session) -> None:
    """Forget the keys that are older than a week."""
    session.execute(delete(IdempotencyKey).where(IdempotencyKey.created < now() - KEPT_FOR))
