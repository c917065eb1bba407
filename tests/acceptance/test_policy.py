"""What the host's owner decided holds, whatever the job asks for."""

from __future__ import annotations

from host import Host, Submitter, inference, reviews

from zoo import Zoo


def test_the_hosts_limit_ends_a_job_that_may_spend_more(host: Host, submitter: Submitter, zoo: Zoo) -> None:
    """What was paid for is kept: the rows that have an answer are in the result."""
    job_id = submitter.submit(inference(reviews(20), budget={"max_calls": 15}))

    agent = host.start("--once", OVERMIND_AGENT_POLICY__MAX_CALLS="5")

    assert 0 == agent.exit_code(), agent.raw
    assert 5 == sum(zoo.calls.values())
    assert b"budget" in submitter.files(job_id)["summary.json"]


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
