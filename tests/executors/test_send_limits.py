"""The limits learnt from refusals, against simulated providers on a clock of their own."""

from __future__ import annotations

import heapq
import math
import random
from dataclasses import dataclass, field

import pytest

from overmind_executors.calls.send_limits import BACK_AFTER_S, SendLimits, Signal

# One and the same setting for every provider here.
MOST = 100
MEDIAN_S = 2.0
SPREAD = 0.5


class RateLimited:
    """Takes *per_s* calls a second on average, and *burst* at once."""

    def __init__(self, per_s: float, burst: float = 20.0) -> None:
        self.per_s, self.burst = per_s, burst
        self._left, self._at_s = burst, 0.0

    def takes(self, now_s: float, _inside: int) -> bool:
        self._left = min(self.burst, self._left + (now_s - self._at_s) * self.per_s)
        self._at_s = now_s
        taken = self._left >= 1
        self._left -= taken
        return taken

    def double(self) -> None:
        self.per_s *= 2

    def shortest_s(self, latencies_s: list[float]) -> float:
        return (len(latencies_s) - self.burst) / self.per_s


class Crowded:
    """Takes *most* calls at once."""

    def __init__(self, most: int) -> None:
        self.most = most

    def takes(self, _now_s: float, inside: int) -> bool:
        return inside < self.most

    def double(self) -> None:
        self.most *= 2

    def shortest_s(self, latencies_s: list[float]) -> float:
        return sum(latencies_s) / self.most


@dataclass
class Run:
    """What came of it: when each row was answered, how often a call was refused."""

    ended_s: list[float] = field(default_factory=list)
    latencies_s: list[float] = field(default_factory=list)
    refusals: int = 0


def simulate(
    server: RateLimited | Crowded, *, rows: int, seed: int, retry_after_s: float = 0, double_at_s: float = math.inf
) -> Run:
    """All rows, each sent again after a while when it was refused; a refusal takes 50 ms."""
    limits, draw, run = SendLimits(MOST), random.Random(seed), Run()
    now_s, inside, waiting, number = 0.0, 0, rows, 0
    ahead: list[tuple[float, int, object]] = []
    while len(run.ended_s) < rows:
        wait_s = limits.wait_s(now_s) if waiting else math.inf
        if wait_s == 0:
            waiting, number, sent = waiting - 1, number + 1, limits.send(now_s)
            if server.takes(now_s, inside):
                inside += 1
                run.latencies_s.append(draw.lognormvariate(math.log(MEDIAN_S), SPREAD))
                heapq.heappush(ahead, (now_s + run.latencies_s[-1], number, (sent, Signal.TAKEN)))
            else:
                heapq.heappush(ahead, (now_s + 0.05, number, (sent, Signal.REFUSED)))
            continue
        before_s, now_s = now_s, min([now_s + wait_s + 1e-9, *(entry[0] for entry in ahead[:1])])
        if before_s < double_at_s <= now_s:
            server.double()
        while ahead and ahead[0][0] <= now_s:
            match heapq.heappop(ahead)[2]:
                case (sent, Signal.TAKEN):
                    inside -= 1
                    run.ended_s.append(now_s)
                    limits.end(sent, now_s, Signal.TAKEN)
                case (sent, Signal.REFUSED):
                    run.refusals += 1
                    limits.end(sent, now_s, Signal.REFUSED)
                    if retry_after_s:
                        limits.pause(now_s, retry_after_s)
                    number += 1
                    heapq.heappush(ahead, (now_s + draw.uniform(0.5, 1.5), number, "again"))
                case _:
                    waiting += 1
    return run


@pytest.mark.parametrize("retry_after_s", [0.0, 1.0], ids=["says nothing", "says when"])
@pytest.mark.parametrize(
    ("make", "least"), [(lambda: RateLimited(10), 0.9), (lambda: Crowded(32), 0.85)], ids=["rate", "concurrency"]
)
def test_one_setting_uses_a_rate_limit_and_a_concurrency_limit(
    make: object, least: float, retry_after_s: float
) -> None:
    """Of what the provider would have taken, most is used, with at most two refusals in a hundred rows."""
    rows, seeds = 1500, range(5)
    used, refused = [], []
    for seed in seeds:
        server = make()  # type: ignore[operator]
        run = simulate(server, rows=rows, seed=seed, retry_after_s=retry_after_s)
        used.append(server.shortest_s(run.latencies_s) / run.ended_s[-1])
        refused.append(100 * run.refusals / rows)

    assert min(used) >= least, used
    assert sum(refused) / len(seeds) <= 2, refused


@pytest.mark.parametrize(("make", "per_s"), [(lambda: RateLimited(10), 20), (lambda: Crowded(32), 28)])
def test_a_limit_that_doubles_is_used_within_a_minute(make: object, per_s: float) -> None:
    """64 calls at once of 2.27 s on average are 28 a second."""
    run = simulate(make(), rows=4000, seed=1, double_at_s=60.0)  # type: ignore[operator]

    in_the_minute_after = sum(110 <= at < 130 for at in run.ended_s) / 20
    assert in_the_minute_after >= 0.9 * per_s


def test_refusals_of_one_crowd_count_once() -> None:
    limits = SendLimits(MOST)
    crowd = [limits.send(0.0) for _ in range(4)]

    for sent in reversed(crowd):
        limits.end(sent, 0.1, Signal.REFUSED)

    assert (3, math.inf) == (limits.window(BACK_AFTER_S + 0.1), limits.rate(0.1))


def test_a_refusal_far_below_what_was_taken_is_about_the_rate() -> None:
    limits = SendLimits(MOST)
    for now_s in range(20):
        sent = [limits.send(now_s) for _ in range(limits.window(now_s))]
        for one in sent:
            limits.end(one, now_s + 0.5, Signal.TAKEN)
    window = limits.window(20)

    limits.end(limits.send(20), 20.1, Signal.REFUSED)

    assert window == limits.window(20.1)
    assert limits.rate(20.1) < math.inf


def test_what_a_provider_names_is_believed() -> None:
    rate, crowd = SendLimits(MOST), SendLimits(MOST)

    rate.end(rate.send(0.0), 0.1, Signal.REFUSED_RATE)
    crowd.end(crowd.send(0.0), 0.1, Signal.REFUSED_CONCURRENCY)

    assert (8, True) == (rate.window(0.1), rate.rate(0.1) < math.inf)
    assert (1, math.inf) == (crowd.window(0.1), crowd.rate(0.1))


def test_nothing_is_sent_during_a_pause() -> None:
    limits = SendLimits(MOST)

    limits.pause(0.0, 5.0)
    limits.pause(1.0, 1.0)

    assert 3.0 == limits.wait_s(2.0)
    assert 0.0 == limits.wait_s(5.0)


def test_no_more_calls_are_under_way_than_the_host_allows() -> None:
    limits = SendLimits(3)
    for now_s in range(50):
        sent = [limits.send(now_s) for _ in range(3)]
        assert math.inf == limits.wait_s(now_s)
        for one in sent:
            limits.end(one, now_s + 0.5, Signal.TAKEN)

    assert 3 == limits.window(50)
