"""
What goes over the agent-pull wire, `/api/v2`: the models of both ends, and how an answer is read.

Names and shapes are those of `istari-digital-client` 9.0.0. Fields marked *ours* belong to the extensions of
`docs/protocol.md`; a client that does not know them never meets them. Readers ignore keys that they do not
know, so that either end may grow. Everybody says `wire.Job`; which module it stands in is said here.
"""

from __future__ import annotations

from overmind_agent.wire.agents import (
    EXTENSIONS,
    Agent,
    AgentStatusName,
    Capabilities,
    DisplayName,
    ModuleVersion,
    NewAgent,
    NextClaim,
    Registration,
)
from overmind_agent.wire.artifacts import Artifact, Made, MadeArtifacts, Model, ModelFile
from overmind_agent.wire.basis import Asked, Id, Label, Name, Salt, Sha, Sha256, Wire
from overmind_agent.wire.files import (
    ENCLOSED_BYTES,
    INLINE_BYTES,
    MOST_ARTIFACTS,
    MOST_ENCLOSED,
    ArchiveEntry,
    ArrivedPart,
    File,
    FileRevision,
    FileToken,
    KeyedArtifact,
    MultipartUpload,
    NewArtifact,
    NewArtifacts,
    RevisionLink,
    TemporaryUrl,
)
from overmind_agent.wire.heartbeats import Heartbeat, HeartbeatAnswer, HeldJob, JobOrder, ProgressLine
from overmind_agent.wire.jobs import (
    MAX_SIGNATURE_CHARS,
    Attempt,
    FunctionStatus,
    FunctionVersion,
    InputFile,
    Job,
    LeaseGrant,
    Limits,
    NoJobResponse,
    OperatingSystem,
    PageJob,
    RawPage,
    Replaced,
)
from overmind_agent.wire.outcomes import ITERATIONS, record_fields
from overmind_agent.wire.reading import explain, parse, parse_next_job, parse_offered, read_job, read_revision
from overmind_agent.wire.reports import MOST_REPORTS, AnyReports, Heard, Report, Reports, ReportsAnswer
from overmind_agent.wire.statuses import (
    DeclaredFile,
    JobStatus,
    LogCounts,
    LogOffset,
    Noted,
    StatusBody,
    StatusDetail,
)
