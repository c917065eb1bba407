"""Documents of the agent-pull wire, as a server sends them, made anew for each caller."""

from __future__ import annotations

import json
from typing import Any

NOW = "2026-03-04T05:06:07.123456+00:00"
SHA = "ab" * 48
SALT = "cd" * 16
JOB_ID = "8b0e7f0a-4f46-4a3c-9a55-0f5d7a2f0001"
AGENT_ID = "8b0e7f0a-4f46-4a3c-9a55-0f5d7a2f0002"
MODEL_ID = "8b0e7f0a-4f46-4a3c-9a55-0f5d7a2f0003"
USER_ID = "8b0e7f0a-4f46-4a3c-9a55-0f5d7a2f0004"
REVISION_ID = "8b0e7f0a-4f46-4a3c-9a55-0f5d7a2f0005"


def encode(document: Any) -> bytes:
    """*document* as it goes over the wire."""
    return json.dumps(document).encode()


def active(owner: str, key: str) -> dict[str, Any]:
    """An entry of an archive history; *key* is which kind of thing *owner* is."""
    return {"id": "entry-1", "created": NOW, "name": "Active", "reason": "Initial", key: owner}


def token(name: str) -> dict[str, Any]:
    """What names a blob."""
    return {"id": f"token-{name}", "created": NOW, "sha": SHA, "salt": SALT, "created_by_id": USER_ID}


def revision(name: str = "parameters.json", size: int = 18) -> dict[str, Any]:
    """One version of a file."""
    return {
        "id": REVISION_ID,
        "created": NOW,
        "file_id": "file-1",
        "content_token": token("content"),
        "properties_token": token("properties"),
        "archive_status_history": [active(REVISION_ID, "file_revision_id")],
        "name": name,
        "extension": name.rpartition(".")[2],
        "size": size,
        "display_name": "nightly",
        "sources": [
            {
                "revision_id": "revision-of-the-input",
                "file_id": "file-2",
                "resource_type": "Model",
                "resource_id": MODEL_ID,
                "relationship_identifier": "input",
            }
        ],
        "products": [],
        "created_by_id": USER_ID,
        "description": None,
        "mime": None,
        "version_name": None,
        "external_identifier": None,
        "updated": None,
    }


def file(*revisions: dict[str, Any]) -> dict[str, Any]:
    """A file of these revisions, or of one."""
    return {
        "id": "file-1",
        "created": NOW,
        "revisions": list(revisions) or [revision()],
        "archive_status_history": [active("file-1", "file_id")],
        "resource_id": JOB_ID,
        "resource_type": "Job",
        "created_by_id": USER_ID,
        "updated": NOW,
    }


def function(name: str = "@overmind:inference") -> dict[str, Any]:
    """What a job runs."""
    return {
        "id": "function-1",
        "created": NOW,
        "name": name,
        "version": "1.0.0",
        "module_name": "@overmind:executors",
        "module_version": "1.0.0",
        "entrypoint": "overmind-agent",
        "run_command": "{entrypoint} {input_file} {output_file}",
        "created_by_id": USER_ID,
        "status": {
            "id": "status-1",
            "created": NOW,
            "created_by_id": USER_ID,
            "name": "supported",
            "function_id": "function-1",
            "reason": None,
        },
        "tool_versions": [],
        "operating_systems": [{"id": "os-1", "created": NOW, "name": "Debian 12"}],
        "function_schema": None,
        "tool_name": None,
        "tool_display_name": None,
    }


def status(name: str, agent_id: str | None = None, message: str | None = None) -> dict[str, Any]:
    """One line of a job's history."""
    line = {"id": f"status-{name}", "created": NOW, "job_id": JOB_ID, "name": name, "created_by_id": USER_ID}
    return line | {"agent_id": agent_id, "message": message}


def job(*statuses: str, **more: Any) -> dict[str, Any]:
    """A job that went through *statuses*; from Claimed on they are of AGENT_ID."""
    names = statuses or ("Pending",)
    waiting = ("Created", "Pending")
    return {
        "id": JOB_ID,
        "created": NOW,
        "file": file(),
        "comments": [],
        "archive_status_history": [active(JOB_ID, "resource_id")],
        "created_by_id": USER_ID,
        "function": function(),
        "agent_id": None if names[-1] in waiting else AGENT_ID,
        "tenant_id": "tenant-1",
        "model_id": MODEL_ID,
        "status_history": [status(name, None if name in waiting else AGENT_ID) for name in names],
        **more,
    }


def model() -> dict[str, Any]:
    """An input file and what belongs to it."""
    return {
        "id": MODEL_ID,
        "created": NOW,
        "file": file(revision("rows.jsonl", 64)),
        "comments": [],
        "archive_status_history": [active(MODEL_ID, "resource_id")],
        "created_by_id": USER_ID,
        "artifacts": [],
        "jobs": [],
    }


def artifact() -> dict[str, Any]:
    """A file that a job made."""
    return {
        "id": "artifact-1",
        "created": NOW,
        "file": file(revision("result.json", 9)),
        "comments": [],
        "archive_status_history": [active("artifact-1", "resource_id")],
        "created_by_id": USER_ID,
        "model_id": MODEL_ID,
    }
