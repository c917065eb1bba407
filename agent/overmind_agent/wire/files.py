"""Files on the wire: their revisions, the blobs that they name, and where these come and go."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Final

from pydantic import Field, StringConstraints

from overmind_agent.wire.basis import Asked, Id, Label, Name, Salt, Sha, Wire


class FileToken(Wire):
    """Names one blob: `sha` is the hex SHA-384 of its bytes followed by `salt` in ASCII."""

    id: Id
    created: datetime
    sha: Sha
    salt: Salt
    created_by_id: str | None = None


class ArchiveEntry(Wire):
    """One line of a resource's, a file's or a revision's archive history."""

    id: Id
    created: datetime
    name: str
    reason: str | None = None
    created_by_id: str | None = None
    resource_id: str | None = None
    file_id: str | None = None
    file_revision_id: str | None = None


class RevisionLink(Wire):
    """A source or a product of a revision. A request needs `revision_id` alone; the server fills in the rest."""

    revision_id: Id
    relationship_identifier: Label | None = None
    file_id: str | None = None
    resource_type: str | None = None
    resource_id: str | None = None


class FileRevision(Wire):
    """One version of a file: two blobs (content and properties) and what describes them."""

    id: Id
    created: datetime
    content_token: FileToken
    properties_token: FileToken
    archive_status_history: list[ArchiveEntry]
    file_id: str | None = None
    name: Name | None = None
    extension: Label | None = None
    size: int | None = Field(default=None, ge=0)
    mime: Label | None = None
    description: Label | None = None
    display_name: Label | None = None
    version_name: Label | None = None
    external_identifier: Label | None = None
    sources: list[RevisionLink] | None = None
    products: list[RevisionLink] | None = None
    created_by_id: str | None = None
    updated: datetime | None = None


INLINE_BYTES: Final = 256 * 1024
"""How much of one blob may come with what names it, instead of by an address of its own."""


class NewArtifact(FileRevision):
    """
    Ours: a revision for a new artifact, with the blobs that are not stored yet.

    `blobs` has the base64 of each by its `sha`; at most INLINE_BYTES each before that. With `as_model` the file is
    a model of its own, too.
    """

    blobs: Annotated[dict[Sha, str], Field(max_length=2)] | None = None
    as_model: bool = False


MOST_ARTIFACTS: Final = 100
"""How many small result files may come in one call."""


class KeyedArtifact(NewArtifact):
    """Ours: an artifact that comes with others, or with a status update; its key would else stand in a header."""

    key: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9._-]{1,128}$")]


MOST_ENCLOSED: Final = 16
"""How many result files may go with one status update."""

ENCLOSED_BYTES: Final = 256 * 1024
"""How many bytes all that goes with the status updates of one call may have, before they are base64."""


class NewArtifacts(Asked):
    """Ours: the body of `POST /models/{id}/artifacts/together`."""

    artifacts: Annotated[list[KeyedArtifact], Field(min_length=1, max_length=MOST_ARTIFACTS)]


class File(Wire):
    """Revisions, oldest first, and who owns them."""

    id: Id
    created: datetime
    revisions: Annotated[list[FileRevision], Field(min_length=1)]
    archive_status_history: list[ArchiveEntry]
    resource_id: str | None = None
    resource_type: str | None = None
    created_by_id: str | None = None
    updated: datetime | None = None


class TemporaryUrl(Wire):
    """Where to PUT or GET one blob, without a token, until `expires`."""

    url: str
    expires: datetime


class ArrivedPart(Wire):
    """Ours: one part of a large blob that the server has."""

    PartNumber: Annotated[int, Field(ge=1)]
    ETag: str
    Size: Annotated[int, Field(ge=0)]


class MultipartUpload(Wire):
    """Where to PUT the parts of a large blob, by number; `parts`, ours, are those that have arrived."""

    upload_id: Id
    upload_urls: dict[str, TemporaryUrl]
    parts: list[ArrivedPart] = Field(default=[])
