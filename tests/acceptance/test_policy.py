"""What the host's owner decided holds, whatever the job asks for."""

from __future__ import annotations

import json
import os
from pathlib import Path

from host import Host, Submitter, inference, reviews
from joserfc.jwk import OKPKey

from server import ControlPlaneProcess, run_command
from zoo import Zoo


def test_the_hosts_limit_ends_a_job_that_may_spend_more(host: Host, submitter: Submitter, zoo: Zoo) -> None:
    """What was paid for is kept: the rows that have an answer are in the result."""
    job_id = submitter.submit(inference(reviews(20), budget={"max_calls": 15}))

    agent = host.start("--once", OVERMIND_AGENT_POLICY__MAX_CALLS="5")

    assert 0 == agent.exit_code(), agent.raw
    assert 5 == sum(zoo.calls.values())
    summary = json.loads(submitter.files(job_id)["summary.json"])
    assert ("budget_exhausted", 5) == (summary["termination_reason"], summary["counts"]["ok"])


def test_a_model_that_is_not_for_this_type_of_job_is_not_there(host: Host, submitter: Submitter, zoo: Zoo) -> None:
    submitter.submit(inference(reviews(2)))

    agent = host.start("--once", OVERMIND_AGENT_POLICY__MODELS="inference=other,judge_scoring=local")

    assert 1 == agent.exit_code(), agent.raw
    assert "model_not_allowed" == agent.summary["reason"]
    assert "policy.models" in agent.summary["message"]
    assert {} == zoo.calls


def test_a_limit_in_money_needs_a_price(host: Host, submitter: Submitter, zoo: Zoo) -> None:
    """Else a model that nobody named a price for would cost nothing, however much it is asked."""
    submitter.submit(inference(reviews(2)))

    agent = host.start("--once", OVERMIND_AGENT_POLICY__MAX_USD="1.5")

    assert 1 == agent.exit_code(), agent.raw
    assert "model_unpriced" == agent.summary["reason"]
    assert {} == zoo.calls


def test_a_host_that_asks_for_signatures_runs_what_is_signed_and_nothing_else(
    host: Host, submitter: Submitter, plane: ControlPlaneProcess, zoo: Zoo, tmp_path: Path
) -> None:
    """The whole way: from the command line over a control plane to a host."""
    made = OKPKey.generate_key("Ed25519")
    private, public, task = (tmp_path / name for name in ("release.key", "release.pub", "task.json"))
    private.write_bytes(made.as_pem(private=True))
    public.write_bytes(made.as_pem(private=False))
    private.chmod(0o600)
    public.chmod(0o644)
    task.write_text(json.dumps(inference(reviews(2))))
    settings = {
        "OVERMIND_AGENT_POLICY__SIGNATURES": "block",
        "OVERMIND_AGENT_POLICY__SIGNING_KEYS__RELEASE": str(public),
    }
    unsigned = submitter.submit(inference(reviews(2)))

    refused = host.start("--once", **settings)
    assert 1 == refused.exit_code(), refused.raw
    assert {} == zoo.calls
    signed = _submit(plane, "--type", "inference", "--parameters", str(task), "--sign-with", str(private))
    done = host.start("--once", **settings)

    assert (unsigned, "signature_rejected") == (refused.summary["job_id"], refused.summary["reason"])
    assert 0 == done.exit_code(), done.raw
    assert (signed, "completed") == (done.summary["job_id"], done.summary["outcome"])


def _submit(plane: ControlPlaneProcess, *arguments: str) -> str:
    """A job by the command line; its id."""
    environment = {**os.environ, "OVERMIND_API_URL": plane.url, "OVERMIND_API_KEY": plane.submit_token}
    made = run_command("job", "submit", *arguments, environment=environment)
    assert 0 == made.returncode, made.stderr
    return made.stdout.strip()
