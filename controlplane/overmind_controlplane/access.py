"""Projects and tokens: how they are made, and who holds a secret."""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Collection, Sequence
from datetime import datetime, timedelta
from typing import Any, Final

from sqlalchemy import bindparam, select
from sqlalchemy.orm import Session

from overmind_controlplane.caller import Caller, Role
from overmind_controlplane.record.tables import Project, Token, now
from overmind_controlplane.refusals import Conflict, NotAuthenticated, NotFound

PREFIX: Final = "ovr_"
_MAX_TOKEN: Final = 256

# One text for every token that was never ours, so that nobody learns which ones exist.
_UNKNOWN: Final = "Invalid API key."


def digest(token: str) -> str:
    """What is kept of a token: with 256 random bits in it, no slow hash is needed."""
    return hashlib.sha256(token.encode()).hexdigest()


def make_project(session: Session, name: str) -> Project:
    """
    A new project.

    Raises:
        Conflict: there is one of that name.
    """
    if session.scalar(select(Project).where(Project.name == name)):
        raise Conflict(f"there is a project {name!r} already")
    project = Project(name=name)
    session.add(project)
    session.flush()
    return project


def make_token(
    session: Session,
    project_name: str,
    role: Role,
    *,
    expires_days: float | None = None,
    name: str = "",
    more_projects: Sequence[str] = (),
) -> tuple[str, Token]:
    """
    A new token: the secret, which is shown once and kept nowhere, and its record.

    Args:
        more_projects: names of those that an agent serves besides.

    Raises:
        NotFound: there is no project of one of these names.
        Conflict: the token is for several projects and not for an agent.
    """
    if more_projects and role is not Role.AGENT:
        raise Conflict(f"a token with role {role.value} has one project; only an agent's may have several")
    project_id = _project_id(session, project_name)
    secret = PREFIX + secrets.token_urlsafe(32)
    expires = now() + timedelta(days=expires_days) if expires_days is not None else None
    more = {_project_id(session, name) for name in more_projects} - {project_id}
    token = Token(
        sha256=digest(secret),
        project_id=project_id,
        more_projects=sorted(more),
        role=role.value,
        name=name,
        expires_at=expires,
    )
    session.add(token)
    session.flush()
    return secret, token


def _project_id(session: Session, name: str) -> str:
    found = session.scalar(select(Project.id).where(Project.name == name))
    if found is None:
        raise NotFound(f"there is no project {name!r}; make it with: project create {name}")
    return found


def revoke(session: Session, token_id: str, at: datetime | None = None) -> Token:
    """
    End a token; safe to repeat.

    Raises:
        NotFound: there is no token with that id.
    """
    token = session.scalar(select(Token).where(Token.id == token_id))
    if token is None:
        raise NotFound(f"there is no token {token_id}; see: token list")
    token.revoked_at = token.revoked_at or at or now()
    return token


def authenticate(session: Session, secret: str | None) -> Caller:
    """
    Who holds *secret*.

    Raises:
        NotAuthenticated: nobody, or the token was revoked or has expired.
    """
    (found,) = authenticate_all(session, [secret])
    if isinstance(found, NotAuthenticated):
        raise found
    return found


def authenticate_all(session: Session, secrets: Sequence[str | None]) -> list[Caller | NotAuthenticated]:
    """Who holds each of *secrets*, or why nobody does, in the same order; with one query."""
    digests = [digest(secret[:_MAX_TOKEN]) if secret else "" for secret in secrets]
    tokens = {row.sha256: row for row in session.execute(_OF_DIGESTS, {"digests": list(set(digests))})}
    return [_caller(tokens.get(sha256), secret, sha256) for secret, sha256 in zip(secrets, digests, strict=True)]


def authenticate_id(session: Session, token_id: str) -> Caller:
    """
    Who holds the token of that id, for a caller that has shown its secret before.

    Raises:
        NotAuthenticated: there is none, or it was revoked or has expired.
    """
    token = session.execute(select(*_TOKEN_COLUMNS).where(Token.id == token_id)).first()
    return _valid(token)


def known(session: Session, digests: Collection[str]) -> dict[str, Caller]:
    """Whose these digests are, whatever became of the tokens; those of nobody are left out."""
    if not any(digests):
        return {}
    return {row.sha256: _as_caller(row) for row in session.execute(_OF_DIGESTS, {"digests": list(digests)})}


# The columns themselves, so that no objects are made of them: every call asks.
_TOKENS: Final = Token.__table__.c
_TOKEN_COLUMNS: Final = (
    _TOKENS.id,
    _TOKENS.number,
    _TOKENS.project_id,
    _TOKENS.more_projects,
    _TOKENS.role,
    _TOKENS.name,
    _TOKENS.sha256,
    _TOKENS.revoked_at,
    _TOKENS.expires_at,
)
_OF_DIGESTS: Final = select(*_TOKEN_COLUMNS).where(_TOKENS.sha256.in_(bindparam("digests", expanding=True)))


def _caller(token: Any, secret: str | None, sha256: str) -> Caller | NotAuthenticated:
    if not secret:
        return NotAuthenticated("Authentication credentials were not provided.")
    if token is None or not hmac.compare_digest(token.sha256, sha256) or len(secret) > _MAX_TOKEN:
        return NotAuthenticated(_UNKNOWN)
    try:
        return _valid(token)
    except NotAuthenticated as refusal:
        return refusal


def _valid(token: Any) -> Caller:
    """
    Raises:
        NotAuthenticated: *token* is not accepted, or not any more.
    """
    if token is None:
        raise NotAuthenticated(_UNKNOWN)
    if token.revoked_at is not None:
        raise NotAuthenticated("API key is inactive.")
    if token.expires_at is not None and token.expires_at <= now():
        raise NotAuthenticated("API key has expired.")
    return _as_caller(token)


def _as_caller(token: Any) -> Caller:
    more = frozenset(token.more_projects)
    role = Role(token.role)
    return Caller(token.id, token.number, token.project_id, role, token.name, more, token.expires_at)
