"""
GEPA as the search: the only module that knows the package.

Its engine runs in one thread, from a fixed seed, over our own bench and proposer; it keeps nothing on disk. A job
that was interrupted runs it again from the start, and every call that was paid for is answered from the journal.

Source:
    L. A. Agrawal et al., "GEPA: Reflective Prompt Evolution Can Outperform Reinforcement Learning",
    arXiv 2507.19457.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, TypeVar

from gepa.api import optimize
from gepa.core.adapter import EvaluationBatch
from gepa.strategies.batch_sampler import EpochShuffledBatchSampler
from gepa.strategies.proposal_sampling import IndependentSampling, PxNSampling

from overmind_executors.tuning.hard_rows import HardRows
from overmind_executors.tuning.search import Ground
from overmind_executors.tuning.splitting import Case
from overmind_executors.tuning.texts import Texts
from overmind_executors.tuning.trials import Trial

MadeT = TypeVar("MadeT")
_PERFECT: Final = 1.0
# Below all that a row can be worth: who may not win is first nowhere, and nothing is written from it.
_OUT: Final = -1.0
_OF_EACH_PARENT: Final = 2


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
            **_minibatches(ground, adapter),
            perfect_score=_PERFECT,
            sampling_strategy=_sampling(plan.candidates),
            frontier_type="hybrid",
            stop_callbacks=[lambda state: state.i + 1 >= plan.iterations],
            callbacks=[adapter],
            logger=_Silence(),
            track_best_outputs=False,
            seed=plan.seed,
            raise_on_exception=True,
        )
    except _Unwound as unwound:
        raise unwound.error from None


def _minibatches(ground: Ground, adapter: _Adapter) -> dict[str, Any]:
    """How the rows are drawn that a candidate is written from."""
    size = min(ground.plan.examples, len(ground.train))
    if not ground.learnt:
        return {"reflection_minibatch_size": size}
    draw = random.Random(ground.plan.seed)  # noqa: S311  # which rows are shown, no secret
    adapter.hard = HardRows(ground.learnt, size, EpochShuffledBatchSampler(size, draw))
    return {"batch_sampler": adapter.hard}


class _Adapter:
    """What the engine asks: fills GEPA's adapter, and hears its callbacks."""

    def __init__(self, ground: Ground) -> None:
        self._ground = ground
        self._places = {case.row.id: place for place, case in enumerate(ground.train)}
        self.hard: HardRows | None = None
        self._parents: dict[tuple[tuple[str, str], ...], Texts] = {}
        self._waiting: list[Texts] = []
        self._is_cut = False

    def evaluate(self, batch: list[Case], candidate: dict[str, str], capture_traces: bool = False) -> Any:  # noqa: ARG002 - gepa's
        """GEPA's adapter."""
        return self.batch_evaluate([(candidate, batch)])[0]

    def batch_evaluate(self, items: list[tuple[dict[str, str], list[Case]]]) -> list[Any]:
        """GEPA's adapter. What could not be scored counts as nothing here; the test tells the two apart."""
        is_choice = [self._is_choice(candidate, cases) for candidate, cases in items]
        few = [item for item, chooses in zip(items, is_choice, strict=True) if not chooses]
        tried = iter(self._through(lambda: self._ground.trials(few)) if few else [])
        return [
            self._chosen(candidate) if chooses else self._few(next(tried), candidate, cases)
            for (candidate, cases), chooses in zip(items, is_choice, strict=True)
        ]

    def _is_choice(self, candidate: Texts, cases: Sequence[Case]) -> bool:
        return self._is_validation(cases) and _key(candidate) in self._parents

    def _is_validation(self, cases: Sequence[Case]) -> bool:
        return len(cases) == len(self._ground.validation) and list(cases) == list(self._ground.validation)

    def _few(self, trials: list[Trial], candidate: Texts, cases: list[Case]) -> Any:
        objectives = None
        if self._is_validation(cases):  # the prompt as it was, with which the engine begins
            objectives = [dict(self._ground.ledger.objectives_at(candidate, trials))] * len(trials)
        elif self.hard is not None:
            self.hard.add({self._places[trial.row_id]: trial.value for trial in trials})
        return EvaluationBatch(
            outputs=[trial.output for trial in trials],
            scores=[trial.value or 0.0 for trial in trials],
            trajectories=list(zip(cases, trials, strict=True)),
            objective_scores=objectives,
        )

    def _chosen(self, candidate: dict[str, str]) -> Any:
        """A candidate on the validation rows; it is in the ledger then, and waits no more."""
        key, rows = _key(candidate), len(self._ground.validation)
        chosen = self._through(lambda: self._ground.choose(candidate, self._parents[key]))
        self._waiting = [other for other in self._waiting if _key(other) != key]
        return EvaluationBatch(
            outputs=[None] * rows,
            scores=list(chosen.values or [_OUT] * rows),
            trajectories=None,
            objective_scores=[dict(chosen.objectives)] * rows,
        )

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


def _sampling(candidates: int) -> Any:
    """Two candidates of each parent, and of as many parents as that makes; an odd number of independent ones."""
    if candidates == 1:
        return None
    if candidates % _OF_EACH_PARENT or candidates == _OF_EACH_PARENT:
        return IndependentSampling(candidates)
    return PxNSampling(candidates // _OF_EACH_PARENT, _OF_EACH_PARENT)


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
