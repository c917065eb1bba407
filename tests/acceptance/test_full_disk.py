"""A disk that is really full, in the middle of a job: the failure is told, and no job is taken while it is so."""

from __future__ import annotations

from host import Host, Submitter, inference, reviews, wait_until

from zoo import Zoo

FILL = 'cat /dev/zero > filler 2>/dev/null; echo \'{"event": "test.filled"}\''
END = "kill $!; exec <&-"


def test_a_full_disk_fails_the_job_and_the_failure_is_told(host: Host, submitter: Submitter, zoo: Zoo) -> None:
    zoo.close_gate(after=2)
    first = submitter.submit(inference(reviews(40)))
    agent = host.start_on_small_disk(size_mib=40)
    zoo.wait_for_calls(3)
    agent.say(FILL)
    agent.wait_for("test.filled")
    zoo.open_gate()

    wait_until(lambda: submitter.record(first)["status"] == "failed")
    assert "disk_full" in str(submitter.job(first)["status_history"][-1])

    second = submitter.submit(inference(reviews(4)))
    agent.wait_for("disk.short")
    agent.wait_for("worker.no_job")
    assert "pending" == submitter.record(second)["status"]

    agent.say("rm filler")
    wait_until(lambda: submitter.record(second)["status"] == "completed")
    agent.say(END)
    agent.exit_code()
    assert any(line["event"] == "disk.recovered" for line in agent.lines)
