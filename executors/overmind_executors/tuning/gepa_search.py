"""
GEPA as the search: the only module that knows the package.

Its engine runs in one thread, from a fixed seed, over our own bench and proposer; it keeps nothing on disk. A job
that was interrupted runs it again from the start, and every call that was paid for is answered from the journal.

Source:
    L. A. Agrawal et al., "GEPA: Reflective Prompt Evolution Can Outperform Reinforcement Learning",
    arXiv 2507.19457.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, TypeVar

from gepa.api import optimize
from gepa.core.adapter import EvaluationBatch
from gepa.strategies.proposal_sampling import IndependentSampling

from overmind_executors.tuning.search import Ground
from overmind_executors.tuning.splitting import Case
from overmind_executors.tuning.texts import Texts
from overmind_executors.tuning.trials import Trial

MadeT = TypeVar("MadeT")
_PERFECT: Final = 1.0


class _Unwound(BaseException):
    """Carries an exception of ours through the engine, which would try again, or log and go on."""

    def __init__(self, error: Exception) -> None:
        super().__init__(str(error))
        self.error = error


def gepa_search(ground: Ground) -> None:
    """
    Search with GEPA; fills the port `Search`.

    Raises:
        Exception: what the bench, the proposer and the log raise.
    """
    plan = ground.plan
    adapter: Any = _Adapter(ground)
    turns: Any = _Turns(plan.tuned)
    try:
        optimize(
            seed_candidate=dict(ground.original),
            trainset=list(ground.train),
            valset=list(ground.validation),
            adapter=adapter,
            module_selector=turns,
            reflection_minibatch_size=min(plan.examples, len(ground.train)),
            perfect_score=_PERFECT,
            sampling_strategy=IndependentSampling(plan.candidates) if plan.candidates > 1 else None,
            stop_callbacks=[lambda state: state.i + 1 >= plan.iterations],
            callbacks=[adapter],
            logger=_Silence(),
            track_best_outputs=False,
            seed=plan.seed,
            raise_on_exception=True,
        )
    except _Unwound as unwound:
        raise unwound.error from None


class _Adapter:
    """What the engine asks: fills GEPA's adapter, and hears its callbacks."""

    def __init__(self, ground: Ground) -> None:
        self._ground = ground
        self._parents: dict[tuple[tuple[str, str], ...], Texts] = {}
        self._waiting: list[Texts] = []
        self._is_cut = False
        self._validated: dict[tuple[tuple[str, str], ...], list[Trial]] = {}

    def evaluate(self, batch: list[Case], candidate: dict[str, str], capture_traces: bool = False) -> Any:  # noqa: ARG002
        """GEPA's adapter."""
        return self.batch_evaluate([(candidate, batch)])[0]

    def batch_evaluate(self, items: list[tuple[dict[str, str], list[Case]]]) -> list[Any]:
        """GEPA's adapter. What could not be scored counts as nothing here; the test tells the two apart."""
        made = self._through(lambda: self._ground.trials(items))
        for (candidate, cases), trials in zip(items, made, strict=True):
            if len(cases) == len(self._ground.validation) and list(cases) == list(self._ground.validation):
                self._validated[_key(candidate)] = trials
        return [
            EvaluationBatch(
                outputs=[trial.output for trial in trials],
                scores=[trial.value or 0.0 for trial in trials],
                trajectories=list(zip(cases, trials, strict=True)),
            )
            for (_, cases), trials in zip(items, made, strict=True)
        ]

    def make_reflective_dataset(
        self, _candidate: dict[str, str], batch: Any, names: list[str]
    ) -> Mapping[str, Sequence[Mapping[str, Any]]]:
        """GEPA's adapter."""
        return {name: [{"seen": pair} for pair in batch.trajectories] for name in names}

    def propose_new_texts(
        self, candidate: dict[str, str], shown: Mapping[str, Sequence[Mapping[str, Any]]], names: list[str]
    ) -> dict[str, str]:
        """GEPA's adapter: the texts that change, nothing when there is no candidate that may be tried."""
        seen = [entry["seen"] for entry in shown[names[0]]]
        made = self._through(lambda: self._ground.propose(candidate, names, seen))
        if made is None or any(_key(made) == _key(other) for other in self._waiting):
            return {}
        self._parents[_key(made)] = candidate
        self._waiting.append(made)
        return {name: made[name] for name in names}

    # ------------------------------------------------------------------------------------ GEPA's callbacks

    def on_iteration_start(self, event: Mapping[str, Any]) -> None:
        """An iteration begins."""
        self._ground.begin(event["iteration"])

    def on_valset_evaluated(self, event: Mapping[str, Any]) -> None:
        """A candidate was tried on all validation rows."""
        made = event["candidate"]
        if (parent := self._parents.get(_key(made))) is not None:
            self._waiting = [other for other in self._waiting if _key(other) != _key(made)]
            self._ground.ledger.tried(made, parent, self._validated[_key(made)])

    def on_iteration_end(self, _event: Mapping[str, Any]) -> None:
        """Whoever was not tried on the validation rows by now never is; one that was cut short was no worse."""
        for made in () if self._is_cut else self._waiting:
            self._ground.ledger.screened(made, self._parents[_key(made)])
        self._waiting = []

    def _through(self, work: Callable[[], MadeT]) -> MadeT:
        try:
            return work()
        except Exception as error:
            self._is_cut = True
            raise _Unwound(error) from error


class _Turns:
    """The texts that may change, one after the other, for each parent by itself."""

    def __init__(self, names: Sequence[str]) -> None:
        self._names = tuple(names)
        self._next: dict[int, int] = {}

    def __call__(self, _state: Any, _seen: Any, _scores: Any, parent: int, _candidate: Any) -> list[str]:
        """GEPA's selector of components."""
        turn = self._next.get(parent, 0)
        self._next[parent] = turn + 1
        return [self._names[turn % len(self._names)]]


class _Silence:
    """The engine's log, which would show rows and prompts."""

    def log(self, _message: str) -> None:
        """Say nothing."""


def _key(texts: Texts) -> tuple[tuple[str, str], ...]:
    return tuple(sorted(texts.items()))
