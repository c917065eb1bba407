"""
How many calls may be under way at a provider, and how many may be sent a second, learnt from its refusals.

Providers limit either or both, mostly say neither, and change them. A limit on calls under way that is met with a
lower send rate wastes what the provider would have taken; a limit on the rate that is met with fewer calls under
way goes on being refused whenever answers come quicker. So there are two limits here, and each refusal goes to the
one that was its cause. Both then rise again the same way: quickly to where they were refused, carefully around it,
quicker the longer nobody minds, so that a provider that grants twice as much is used in half a minute.

Times are passed in, seconds on any clock that only goes forward. Not safe from several threads: see `gate`.

Source:
    The curve is that of CUBIC, RFC 9438 (2023), with time in place of round trips.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass
from enum import Enum
from typing import Final

# Calls under way at first; each good answer allows one more until a refusal comes.
START: Final = 8.0
# A limit that was refused falls by this share, and is back after so many seconds.
FALL: Final = 0.1
BACK_AFTER_S: Final = 8.0
# A second refusal within this time says that the first step down was too small.
SOON_S: Final = 3.0
STEEP_FALL: Final = 0.2
# Fewer calls under way than this share of what was taken lately cannot be what a refusal is about.
CLEARLY_BELOW: Final = 0.85
FORGET_S: Final = 30.0
# The rate that a provider takes is what it took in this time.
RATE_WINDOW_S: Final = 6.0
SLOWEST_PER_S: Final = 0.2
# So many calls have to be sent before a refusal judges what the last one has changed.
FAIR_TRIAL: Final = 8
# Less time than this says nothing about a rate.
_SHORTEST_S: Final = 0.05
# What a late wake-up may send at once to keep to the rate.
_CATCH_UP: Final = 2.0


class Signal(Enum):
    """What the end of a call says about the limits."""

    TAKEN = "taken"
    REFUSED = "refused"
    REFUSED_RATE = "refused_rate"
    REFUSED_CONCURRENCY = "refused_concurrency"
    NOTHING = "nothing"


@dataclass(frozen=True, slots=True)
class Sent:
    """A call under way: which it is, how many were then (with it), whether the send rate had held it back."""

    number: int
    at_s: float
    in_flight: int
    was_paced: bool


class Climb:
    """A limit on its way up from where it was refused last."""

    def __init__(self) -> None:
        self._mark: float | None = None
        self._since_s = 0.0
        self._fall = FALL

    def cut(self, now_s: float, mark: float, *, fall: float = FALL) -> None:
        """It was refused just above *mark*."""
        self._mark, self._since_s, self._fall = mark, now_s, fall

    def at(self, now_s: float) -> float:
        """What it is now; infinite while nothing was refused."""
        if self._mark is None:
            return math.inf
        x = (now_s - self._since_s) / BACK_AFTER_S - 1.0
        return self._mark * (1.0 + (self._fall if x < 0 else FALL) * x**3)


class SendLimits:
    """
    Both limits of one endpoint.

    Args:
        most: calls under way at most, whatever the provider would take.
    """

    def __init__(self, most: int) -> None:
        self._most = float(most)
        self._slow_start: float | None = min(START, self._most)
        self._window, self._rate = Climb(), Climb()
        self._last_cut_s = -math.inf
        self._sent = self._judged = 0
        self._in_flight = 0
        self._next_send_s = -math.inf
        self._paused_until_s = -math.inf
        self._was_paced = False
        self._taken: deque[float] = deque(maxlen=4096)
        self._most_taken, self._most_taken_at_s = 0.0, 0.0

    def wait_s(self, now_s: float) -> float:
        """Seconds until the next call may be sent, 0 for now, infinite while one under way has to end first."""
        if self._in_flight >= self.window(now_s):
            return math.inf
        paced = self._rate.at(now_s) < math.inf and self._next_send_s > now_s
        self._was_paced = self._was_paced or paced
        return max(0.0, self._paused_until_s - now_s, self._next_send_s - now_s if paced else 0.0)

    def window(self, now_s: float) -> int:
        """Calls that may be under way now."""
        learnt = self._slow_start if self._slow_start is not None else self._window.at(now_s)
        return max(1, round(min(learnt, self._most)))

    def rate(self, now_s: float) -> float:
        """Calls that may be sent a second now; infinite while no refusal was about that."""
        return max(SLOWEST_PER_S, self._rate.at(now_s))

    def send(self, now_s: float) -> Sent:
        """A call is sent now."""
        self._in_flight += 1
        self._sent += 1
        sent = Sent(self._sent, now_s, self._in_flight, self._was_paced)
        self._was_paced = False
        gap_s = 1.0 / self.rate(now_s)
        self._next_send_s = max(self._next_send_s, now_s - _CATCH_UP * gap_s) + gap_s
        self._taken.append(now_s)
        return sent

    def end(self, sent: Sent, now_s: float, signal: Signal) -> None:
        """The call has ended."""
        self._in_flight -= 1
        if signal is Signal.TAKEN:
            self._note_taken(sent, now_s)
        elif signal is not Signal.NOTHING:
            self._note_refused(sent, now_s, signal)

    def pause(self, now_s: float, seconds: float) -> None:
        """Send nothing for *seconds* seconds."""
        self._paused_until_s = max(self._paused_until_s, now_s + seconds)

    def _note_taken(self, sent: Sent, now_s: float) -> None:
        if sent.in_flight >= self._recently_taken(now_s):
            self._most_taken, self._most_taken_at_s = float(sent.in_flight), now_s
        if self._slow_start is not None:
            self._slow_start = min(self._slow_start + 1.0, self._most)

    def _recently_taken(self, now_s: float) -> float:
        return self._most_taken * math.exp((self._most_taken_at_s - now_s) / FORGET_S)

    def _note_refused(self, sent: Sent, now_s: float, signal: Signal) -> None:
        if sent.at_s in self._taken:
            self._taken.remove(sent.at_s)
        if sent.number <= self._judged:
            return  # of the same crowd as the refusal that was answered already
        self._judged = self._sent + FAIR_TRIAL
        fall = STEEP_FALL if now_s - self._last_cut_s < SOON_S else FALL
        self._last_cut_s = now_s
        if self._is_about_rate(sent, now_s, signal):
            self._rate.cut(now_s, min(self._rate.at(now_s), self._taken_per_s(now_s)))
            self._next_send_s = now_s + 1.0 / self.rate(now_s)
        else:
            self._window.cut(now_s, max(1.0, sent.in_flight - 1.0), fall=fall)
            self._slow_start = None

    def _is_about_rate(self, sent: Sent, now_s: float, signal: Signal) -> bool:
        if signal is not Signal.REFUSED:
            return signal is Signal.REFUSED_RATE
        return sent.was_paced or sent.in_flight < CLEARLY_BELOW * self._recently_taken(now_s)

    def _taken_per_s(self, now_s: float) -> float:
        while self._taken and self._taken[0] < now_s - RATE_WINDOW_S:
            self._taken.popleft()
        if not self._taken:
            return SLOWEST_PER_S
        return max(SLOWEST_PER_S, len(self._taken) / max(now_s - self._taken[0], _SHORTEST_S))
