"""
Files: what a revision says, checked against the blobs it names, and the models and artifacts that own files.

Measuring a blob reads all of it, so it is done before the transaction that stores the revision (`check`), never
inside one.
"""

from __future__ import annotations

import hashlib
import json
import secrets
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import bindparam, select, union
from sqlalchemy.orm import Session

from overmind_agent import wire
from overmind_controlplane.caller import Caller
from overmind_controlplane.record.appending import append
from overmind_controlplane.record.tables import Artifact, File, Link, Model, Revision, new_id
from overmind_controlplane.refusals import NotFound, wrong
from overmind_controlplane.storage.blobs import Blobs, Measured

MOST_SOURCES: Final = 100
"""So many revisions may one have been made from."""


@dataclass(frozen=True)
class Source:
    """A revision that another one was made from."""

    revision_id: str
    relationship_identifier: str | None


@dataclass(frozen=True)
class NewRevision:
    """A revision whose blobs are there and are what it says. Ids and times are ours, not its maker's."""

    content_sha: str
    content_salt: str
    properties_sha: str
    properties_salt: str
    size: int
    sha256: str
    name: str | None
    extension: str | None = None
    mime: str | None = None
    description: str | None = None
    display_name: str | None = None
    version_name: str | None = None
    external_identifier: str | None = None
    sources: tuple[Source, ...] = ()


@dataclass(frozen=True)
class NewArtifact:
    """
    An artifact that is to be added once.

    Attributes:
        key: under which it is known when it comes again.
        asked: the digest of what was asked, as `idempotency` has it.
        as_model: whether its file is to be a model, too.
    """

    key: str
    asked: str
    revision: NewRevision
    as_model: bool = False


def check(
    blobs: Blobs, project_id: str, told: wire.FileRevision, known: Mapping[str, Measured] | None = None
) -> NewRevision:
    """
    What *told* says, once both its blobs were read.

    Args:
        known: blobs that came with it, and were measured as they were stored.

    Raises:
        Invalid: a blob is missing or is not what its digest says, or the size differs. A blob that is wrong is
            removed, so that it can be uploaded again. Or it names too many sources.
    """
    if len(told.sources or ()) > MOST_SOURCES:  # each is looked up while nobody else can write
        raise wrong(f"a revision has up to {MOST_SOURCES} sources", "body", "sources", kind="too_long")
    known = known or {}
    content = known.get(told.content_token.sha) or _measure(blobs, project_id, told.content_token, "content_token")
    if told.properties_token.sha not in known:
        _measure(blobs, project_id, told.properties_token, "properties_token")
    if told.size is not None and told.size != content.size:
        raise wrong(f"the file has {content.size} bytes, not {told.size}", "body", "size")
    return NewRevision(
        content_sha=told.content_token.sha,
        content_salt=told.content_token.salt,
        properties_sha=told.properties_token.sha,
        properties_salt=told.properties_token.salt,
        size=content.size,
        sha256=content.sha256,
        name=told.name,
        extension=told.extension,
        mime=told.mime,
        description=told.description,
        display_name=told.display_name,
        version_name=told.version_name,
        external_identifier=told.external_identifier,
        sources=tuple(Source(link.revision_id, link.relationship_identifier) for link in told.sources or ()),
    )


def _measure(blobs: Blobs, project_id: str, token: wire.FileToken, field: str) -> Measured:
    try:
        found = blobs.measure(project_id, token.sha, token.salt)
    except FileNotFoundError:
        raise wrong(
            f"there is no blob {token.sha[:12]}…; upload it before the revision that names it", "body", field, "sha"
        ) from None
    if found.sha384_salted != token.sha:
        blobs.discard(project_id, token.sha)
        raise wrong("the uploaded bytes do not have this digest; upload them again", "body", field, "sha")
    return found


def salts_of(session: Session, project_id: str, sha: str) -> Collection[str]:
    """The salts with which revisions of that project name the blob *sha*."""
    named = [
        select(salt).where(name == sha, Revision.project_id == project_id)
        for name, salt in (
            (Revision.content_sha, Revision.content_salt),
            (Revision.properties_sha, Revision.properties_salt),
        )
    ]
    return session.scalars(union(*named)).all()


def write_json(blobs: Blobs, project_id: str, name: str, value: Any) -> NewRevision:
    """A JSON file of our own making."""
    return write(blobs, project_id, name, json.dumps(value, indent=2, ensure_ascii=False).encode())


def write_lines(blobs: Blobs, project_id: str, name: str, values: Iterable[Any]) -> NewRevision:
    """A file of our own making that holds one JSON value a line."""
    lines = (json.dumps(value, ensure_ascii=False, separators=(",", ":")) + "\n" for value in values)
    return write(blobs, project_id, name, "".join(lines).encode())


def write(blobs: Blobs, project_id: str, name: str, content: bytes) -> NewRevision:
    """A file of our own making: *content* and its properties, stored as a client would store them."""
    extension = name.rpartition(".")[2]
    salt = secrets.token_hex(16)
    properties = {
        "file_name": name,
        "mime": None,
        "extension": extension,
        "size": len(content),
        "description": None,
    }
    properties |= {"version_name": None, "external_identifier": None, "display_name": None}
    described = json.dumps(properties, separators=(",", ":")).encode()
    shas = [hashlib.sha384(data + salt.encode()).hexdigest() for data in (content, described)]
    blobs.put_all(project_id, dict(zip(shas, (content, described), strict=True)))
    return NewRevision(
        content_sha=shas[0],
        content_salt=salt,
        properties_sha=shas[1],
        properties_salt=salt,
        size=len(content),
        sha256=hashlib.sha256(content).hexdigest(),
        name=name,
        extension=extension,
    )


def append_revision(session: Session, caller: Caller, file_id: str, new: NewRevision) -> None:
    """
    Add *new* at the end of the file, with links to its sources.

    Raises:
        Invalid: a source is not there.
    """
    revision_id = _append_revision(session, caller, file_id, new)
    for position, source in enumerate(new.sources):
        named = select(Revision.id).where(Revision.id == source.revision_id)
        if session.scalar(named.where(Revision.project_id == caller.project_id)) is None:
            raise wrong(f"there is no revision {source.revision_id}", "body", "sources", position, "revision_id")
        _append_link(session, source, revision_id)
    session.flush()


def add_file(session: Session, caller: Caller, owner: tuple[str, str], new: NewRevision) -> str:
    """A file of one revision for *owner*: its type (`Model`, `Artifact`, `Job`) and id; returns the file's id."""
    file_id = _append_file(session, caller, owner)
    append_revision(session, caller, file_id, new)
    return file_id


def _append_file(session: Session, caller: Caller, owner: tuple[str, str]) -> str:
    file_id, (kind, owner_id) = new_id(), owner
    line = {"id": file_id, "resource_type": kind, "resource_id": owner_id}
    append(session, File, {**line, "project_id": caller.project_id, "created_by": caller.token_id})
    return file_id


def _append_revision(session: Session, caller: Caller, file_id: str, new: NewRevision) -> str:
    revision_id = new_id()
    plain = {name: value for name, value in vars(new).items() if name != "sources"}
    by = {"project_id": caller.project_id, "created_by": caller.token_id}
    append(session, Revision, {"id": revision_id, "file_id": file_id, **by, **plain})
    return revision_id


def _append_link(session: Session, source: Source, product_id: str) -> None:
    kind = source.relationship_identifier
    line = {"source_id": source.revision_id, "product_id": product_id, "relationship_identifier": kind}
    append(session, Link, line)


def add_model(session: Session, caller: Caller, new: NewRevision) -> Model:
    """A new model with its file."""
    model_id = new_id()
    file_id = add_file(session, caller, ("Model", model_id), new)
    model = Model(id=model_id, project_id=caller.project_id, file_id=file_id, created_by=caller.token_id)
    session.add(model)
    session.flush()
    return model


def add_artifact(session: Session, caller: Caller, model: Model, new: NewRevision) -> Artifact:
    """A new artifact of *model* with its file."""
    artifact_id = new_id()
    file_id = add_file(session, caller, ("Artifact", artifact_id), new)
    artifact = Artifact(
        id=artifact_id,
        project_id=caller.project_id,
        model_id=model.id,
        file_id=file_id,
        created_by=caller.token_id,
    )
    session.add(artifact)
    session.flush()
    return artifact


_VERSIONS: Final = select(Revision.__table__.c.id).where(Revision.__table__.c.file_id == bindparam("file_id"))


def add_artifacts(
    session: Session, caller: Caller, model_id: str, source_file_id: str, news: Sequence[NewRevision]
) -> list[str]:
    """
    New artifacts of a model, with their files, made of versions of one file; their ids. As `add_artifact`, with a
    statement a table for all of them.

    Raises:
        Invalid: one has a source that is no version of that file.
    """
    versions = set(session.scalars(_VERSIONS, {"file_id": source_file_id}))
    made = []
    for new in news:
        artifact_id = new_id()
        file_id = _append_file(session, caller, ("Artifact", artifact_id))
        revision_id = _append_revision(session, caller, file_id, new)
        for source in new.sources:
            if source.revision_id not in versions:
                raise wrong(f"revision {source.revision_id} is not one of this job", "body", "sources")
            _append_link(session, source, revision_id)
        by = {"project_id": caller.project_id, "created_by": caller.token_id}
        append(session, Artifact, {"id": artifact_id, "model_id": model_id, "file_id": file_id, **by})
        made.append(artifact_id)
    return made


def artifact_scope(project_id: str, caller: Caller) -> str:
    """Within which no two artifacts have the same key."""
    return f"{project_id}:{caller.token_id}:artifact"


_ONE_MODEL: Final = select(Model).where(
    Model.id == bindparam("model_id"), Model.project_id.in_(bindparam("project_ids", expanding=True))
)


def get_model(session: Session, caller: Caller, model_id: str) -> Model:
    """
    The caller's model of that id.

    Raises:
        NotFound: there is none.
    """
    model = session.scalar(_ONE_MODEL, {"model_id": model_id, "project_ids": list(caller.projects)})
    if model is None:
        raise NotFound("Model not found")
    return model


def get_artifact(session: Session, caller: Caller, artifact_id: str) -> Artifact:
    """
    The caller's artifact of that id.

    Raises:
        NotFound: there is none.
    """
    artifact = session.scalar(
        select(Artifact).where(Artifact.id == artifact_id, Artifact.project_id.in_(caller.projects))
    )
    if artifact is None:
        raise NotFound("Artifact not found")
    return artifact


def last_revision(session: Session, file_id: str) -> Revision:
    """The newest version of a file."""
    newest = select(Revision).where(Revision.file_id == file_id).order_by(Revision.number.desc()).limit(1)
    return session.scalars(newest).one()


_NEWEST: Final = (
    select(Model.id, Revision.id, Revision.name, Revision.content_sha, Revision.content_salt, Revision.size)
    .join(Revision, Revision.file_id == Model.file_id)
    .where(Model.id.in_(bindparam("model_ids", expanding=True)))
    .order_by(Revision.number)
)


def newest_of_models(session: Session, model_ids: Collection[str]) -> dict[str, wire.InputFile]:
    """The newest version of the file of each of these models, without its content."""
    found = session.execute(_NEWEST, {"model_ids": list(model_ids)})
    return {
        model_id: wire.InputFile(revision_id=revision_id, name=name, sha=sha, salt=salt, size=size)
        for model_id, revision_id, name, sha, salt, size in found
    }


def results(session: Session, job_file_id: str) -> list[tuple[Artifact, Revision]]:
    """The artifacts whose sources name any revision of the job's file, oldest first, each with that revision."""
    of_job = select(Revision.id).where(Revision.file_id == job_file_id)
    made = (
        select(Artifact, Revision)
        .join(Revision, Revision.file_id == Artifact.file_id)
        .where(Revision.id.in_(select(Link.product_id).where(Link.source_id.in_(of_job))))
        .order_by(Revision.number)
    )
    return [(artifact, revision) for artifact, revision in session.execute(made)]
