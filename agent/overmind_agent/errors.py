"""
Everything that can go wrong, as one tree.

```
OvermindAgentError
├─ ConfigError               exit 78
├─ StateInUse                exit 73
├─ ControlPlaneError         verb, http_status
│  ├─ TransientError         network, time-out, 429, 5xx, an answer that is not JSON: retry
│  └─ RejectedError          any other answer: do not retry
│     ├─ AuthError           401, 403: the daemon ends, exit 77
│     └─ ClaimLost           404, 409, 410, 422, 423 on a job we asked for or held
├─ ProtocolError             JSON that does not fit the wire models
│  └─ BrokenJob              a job among it, whose id at least can be read
├─ JobError                  fails the job, never the daemon; carries a reason
│  ├─ InvalidInput           invalid_input
│  ├─ ExecutorError          executor_error
│  └─ UploadError            upload_error
├─ IllegalTransition         a bug of ours
└─ JournalError              disk full, unreadable
Stopped                      not an error: carries a StopReason out of the launcher
```
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from overmind_agent.jobs import StopReason


class OvermindAgentError(Exception):
    """Whatever this project raises on purpose."""


class ConfigError(OvermindAgentError):
    """The configuration is wrong; the message names the key and what to do."""


class StateInUse(OvermindAgentError):
    """Another daemon holds the state folder."""


class ControlPlaneError(OvermindAgentError):
    """
    A call to the control plane did not do what it should.

    Attributes:
        verb: which call, such as `claim`.
        http_status: the answer's status, None when there was no answer.
    """

    def __init__(self, message: str, *, verb: str, http_status: int | None = None) -> None:
        super().__init__(message)
        self.verb = verb
        self.http_status = http_status


class TransientError(ControlPlaneError):
    """
    It may go well when tried again.

    Attributes:
        retry_after_s: how long the server asked us to wait, None if it did not.
    """

    def __init__(
        self, message: str, *, verb: str, http_status: int | None = None, retry_after_s: float | None = None
    ) -> None:
        super().__init__(message, verb=verb, http_status=http_status)
        self.retry_after_s = retry_after_s


class RejectedError(ControlPlaneError):
    """
    The server understood the call and refused it: trying again would change nothing.

    Attributes:
        facts: the JSON object that came with the refusal, empty if none did. Untrusted.
    """

    def __init__(
        self,
        message: str,
        *,
        verb: str,
        http_status: int | None = None,
        facts: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(message, verb=verb, http_status=http_status)
        self.facts = facts or {}


class AuthError(RejectedError):
    """The token is not accepted."""


class ClaimLost(RejectedError):
    """The job is not, or no longer, ours."""


class ProtocolError(OvermindAgentError):
    """JSON that does not fit the wire models; the message names the field, never its value."""


class BrokenJob(ProtocolError):
    """
    A job was offered that cannot be read: nobody can run it, and it would be offered again and again.

    Attributes:
        job_id: safe to use in a path.
    """

    def __init__(self, message: str, *, job_id: str) -> None:
        super().__init__(message)
        self.job_id = job_id


class JobError(OvermindAgentError):
    """
    Fails the job, never the daemon.

    Attributes:
        reason: why, in one word for programs: lower snake case, from `docs/operating.md`'s list.
    """

    reason = "job_error"

    def __init__(self, message: str, *, reason: str | None = None) -> None:
        super().__init__(message)
        self.reason = reason or type(self).reason


class InvalidInput(JobError):
    """The job's parameters or its input file are not what the job type needs."""

    reason = "invalid_input"


class ExecutorError(JobError):
    """The executor failed as a whole; a row that fails is data in the result, not this."""

    reason = "executor_error"


class UploadError(JobError):
    """A result file cannot be uploaded, however often it is tried."""

    reason = "upload_error"


class IllegalTransition(OvermindAgentError):
    """A job would have moved along a way that its life does not have."""


class JournalError(OvermindAgentError):
    """The journal cannot be written or read; no new job may be taken."""


class Stopped(Exception):
    """Not an error: the work was asked to end before it was done."""

    def __init__(self, reason: StopReason) -> None:
        super().__init__(reason.value)
        self.reason = reason
