"""What a job had made when somebody canceled it, at the control plane."""

from __future__ import annotations

from host import Host, Submitter, inference, jsonl, reviews

from zoo import Zoo


def test_what_a_canceled_job_had_made_can_be_read(host: Host, submitter: Submitter, zoo: Zoo) -> None:
    zoo.close_gate(after=6)
    job_id = submitter.submit(inference(reviews(12)))
    agent = host.start("--once")
    zoo.wait_for_calls(7)

    submitter.cancel(job_id)

    assert 1 == agent.exit_code(), agent.raw
    assert "canceled" == agent.summary["outcome"]
    files = submitter.files(job_id)
    assert 0 < len(jsonl(files["partial-output.jsonl"])) <= 12
