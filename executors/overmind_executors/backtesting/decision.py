"""Switch, keep, inconclusive or blocked: a pure function of the evidence and the rule."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np

from overmind_executors.backtesting import pairs
from overmind_executors.backtesting.evidence import Evidence
from overmind_executors.backtesting.pairs import Change, Quality
from overmind_executors.backtesting.rule import WITHHOLDING, Reason, Rule, Verdict
from overmind_executors.backtesting.segments import SegmentFinding, segments_of
from overmind_executors.statistics.paired import holm

Guards = Mapping[str, frozenset[Reason]]
_NONE: Final[frozenset[Reason]] = frozenset()


@dataclass(frozen=True)
class Finding:
    """
    What is known of one candidate.

    Attributes:
        p_better, p_no_worse, p_worse: adjusted for the number of candidates (Holm).
        cost, latency: None for unknown.
        new_gate_failures: requests that failed a gate, less those of the incumbent, on rows of both.
        is_out: whether a race ended before it was asked about all rows.
    """

    model: str
    verdict: Verdict
    reasons: tuple[Reason, ...]
    quality: Quality
    p_better: float
    p_no_worse: float
    p_worse: float
    cost: Change | None
    latency: Change | None
    success_rate: float | None
    new_gate_failures: int
    segments: tuple[SegmentFinding, ...]
    is_out: bool = False


@dataclass(frozen=True)
class Decision:
    """
    Attributes:
        winner: the candidate to switch to, None unless the verdict is SWITCH.
        findings: one for each candidate, in their order.
    """

    verdict: Verdict
    reasons: tuple[Reason, ...]
    winner: str | None
    findings: tuple[Finding, ...]


def decide(
    evidence: Evidence,
    rule: Rule,
    *,
    guards: Guards | None = None,
    out: frozenset[str] = frozenset(),
    is_cut_short: bool = False,
) -> Decision:
    """
    What to do, and why.

    Args:
        guards: what is known against or about a candidate from elsewhere, such as a judge of its family.
        out: candidates that a race took out.
        is_cut_short: the budget ended before all rows were asked.
    """
    names = evidence.candidates
    found = {n: pairs.quality(evidence, n, margin=rule.margin, level=rule.confidence) for n in names}
    adjusted = {
        question: dict(zip(names, holm([getattr(found[n], question).p_value for n in names]), strict=True))
        for question in ("better", "no_worse", "worse")
    }
    findings = []
    for name in names:
        p_values = (adjusted["better"][name], adjusted["no_worse"][name], adjusted["worse"][name])
        facts = _facts(evidence, rule, name, found[name], p_values, is_out=name in out)
        findings.append(_judged(facts, evidence, rule, (guards or {}).get(name, _NONE)))
    return _together(evidence, rule, tuple(findings), is_cut_short=is_cut_short)


def _facts(
    evidence: Evidence,
    rule: Rule,
    name: str,
    quality: Quality,
    p_values: tuple[float, float, float],
    *,
    is_out: bool,
) -> Finding:
    # Each candidate's interval is as wide as its share of the error allows: together they keep to the rule's.
    level = 1 - 2 * rule.alpha / len(evidence.candidates)
    return Finding(
        name,
        Verdict.INCONCLUSIVE,
        (),
        quality,
        *p_values,
        cost=pairs.cost_change(evidence, name, level=level),
        latency=pairs.latency_change(evidence, name, level=level),
        success_rate=evidence.sides[name].success_rate,
        new_gate_failures=_new_gate_failures(evidence, name),
        segments=segments_of(evidence, rule, name),
        is_out=is_out,
    )


def _new_gate_failures(evidence: Evidence, name: str) -> int:
    old, new = evidence.sides[evidence.incumbent], evidence.sides[name]
    both = old.answered & new.answered
    return int(np.sum(new.gate_failed & both)) - int(np.sum(old.gate_failed & both))


def _judged(facts: Finding, evidence: Evidence, rule: Rule, guards: frozenset[Reason]) -> Finding:
    """*facts* with a verdict. The order of the questions is the rule."""
    noted = [*_notes(facts, evidence, rule), *sorted(guards)]
    verdict, reasons = _verdict(facts, rule, frozenset(noted))
    told = tuple(dict.fromkeys([*reasons, *noted]))
    return Finding(**{**vars(facts), "verdict": verdict, "reasons": told})


def _notes(facts: Finding, evidence: Evidence, rule: Rule) -> list[Reason]:
    """What is true of the candidate apart from its quality."""
    cost, latency, side = facts.cost, facts.latency, evidence.sides[facts.model]
    slo = rule.latency_slo_ms
    is_priced = side.is_priced and evidence.sides[evidence.incumbent].is_priced
    held = {
        Reason.COST_LOWER: cost is not None and cost.is_lower and cost.reaches(rule.min_saving),
        Reason.COST_HIGHER: cost is not None and cost.is_higher,
        Reason.LATENCY_LOWER: latency is not None and _is_faster(latency, rule, len(evidence.candidates)),
        Reason.LATENCY_SLO_BREACH: slo is not None and latency is not None and latency.after > slo,
        Reason.GATE_FAILED: facts.new_gate_failures > 0,
        Reason.SEGMENT_REGRESSION: any(segment.is_regression for segment in facts.segments),
        Reason.PRICE_UNKNOWN: bool(side.answered.any()) and not is_priced,
    }
    return [reason for reason, holds in held.items() if holds]


def _is_faster(latency: Change, rule: Rule, candidates: int) -> bool:
    is_enough = latency.requests >= pairs.fewest_requests(rule.alpha / candidates)
    return is_enough and latency.is_lower and latency.reaches(rule.min_saving)


def _verdict(facts: Finding, rule: Rule, noted: frozenset[Reason]) -> tuple[Verdict, tuple[Reason, ...]]:
    if facts.success_rate is None or facts.success_rate < rule.min_success_rate:
        return Verdict.BLOCKED, (Reason.ERROR_RATE_HIGH,)
    if facts.is_out:
        return Verdict.KEEP, (Reason.QUALITY_INFERIOR,)
    coverage = facts.quality.coverage
    if coverage is None or coverage < rule.min_coverage:
        return Verdict.BLOCKED, (Reason.LOW_COVERAGE,)
    if facts.quality.better.units < rule.min_rows:
        return Verdict.INCONCLUSIVE, (Reason.SAMPLE_TOO_SMALL,)
    said = _quality_reason(facts, rule)
    if _is_gain(said, noted):
        return (Verdict.BLOCKED if noted & WITHHOLDING else Verdict.SWITCH), (said,) if said else ()
    if said is Reason.QUALITY_INFERIOR:
        return Verdict.KEEP, (said,)
    is_open = _may_save(facts, rule, noted)
    if said is Reason.QUALITY_NON_INFERIOR:
        return (Verdict.INCONCLUSIVE if is_open else Verdict.KEEP), (said,)
    high = facts.quality.better.high
    if not is_open and high is not None and high < rule.margin:
        return Verdict.KEEP, ()  # nothing to gain: not better by what would matter, and nothing saved
    return Verdict.INCONCLUSIVE, (Reason.SAMPLE_TOO_SMALL,)


def _quality_reason(facts: Finding, rule: Rule) -> Reason | None:
    if facts.p_better <= rule.alpha:
        return Reason.QUALITY_SUPERIOR
    if facts.p_no_worse <= rule.alpha:
        return Reason.QUALITY_NON_INFERIOR
    return Reason.QUALITY_INFERIOR if facts.p_worse <= rule.alpha else None


def _is_gain(said: Reason | None, noted: frozenset[Reason]) -> bool:
    """Better; or no worse and cheaper; or no worse and faster, if that is not paid for."""
    if said is Reason.QUALITY_NON_INFERIOR:
        is_faster = Reason.LATENCY_LOWER in noted and Reason.COST_HIGHER not in noted
        return Reason.COST_LOWER in noted or is_faster
    return said is Reason.QUALITY_SUPERIOR


def _may_save(facts: Finding, rule: Rule, noted: frozenset[Reason]) -> bool:
    """Whether something may be saved that is not shown yet, or that a price would show."""
    if Reason.PRICE_UNKNOWN in noted:
        return True
    changes = [facts.cost] if Reason.COST_HIGHER in noted else [facts.cost, facts.latency]
    return any(change is not None and change.reaches(rule.min_saving) for change in changes)


def _together(evidence: Evidence, rule: Rule, findings: tuple[Finding, ...], *, is_cut_short: bool) -> Decision:
    cut = (Reason.BUDGET_EXHAUSTED,) if is_cut_short else ()
    own = evidence.sides[evidence.incumbent].success_rate
    if own is None or own < rule.min_success_rate:
        blocked = tuple(
            Finding(**{**vars(one), "verdict": Verdict.BLOCKED, "reasons": (Reason.ERROR_RATE_HIGH,)})
            for one in findings
        )
        return Decision(Verdict.BLOCKED, (Reason.ERROR_RATE_HIGH, *cut), None, blocked)
    if switches := [one for one in findings if one.verdict is Verdict.SWITCH]:
        best = max(switches, key=_worth)
        return Decision(Verdict.SWITCH, (*best.reasons, *cut), best.model, findings)
    verdicts = {one.verdict for one in findings}
    verdict = next(v for v in (Verdict.INCONCLUSIVE, Verdict.KEEP, Verdict.BLOCKED) if v in verdicts)
    concerned = [reason for one in findings if one.verdict is verdict for reason in one.reasons]
    return Decision(verdict, tuple(dict.fromkeys([*concerned, *cut])), None, findings)


def _worth(finding: Finding) -> tuple[float, float, float]:
    """Which of several good candidates: the best one, then the cheapest, then the fastest."""
    savings = [change.saving if change else None for change in (finding.cost, finding.latency)]
    cost, latency = (0.0 if saving is None else saving for saving in savings)
    return round(finding.quality.better.difference, 6), cost, latency
