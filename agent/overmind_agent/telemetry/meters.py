"""The figures themselves, in a registry of their own. The only door to prometheus_client."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

import prometheus_client
from prometheus_client import exposition
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

from overmind_agent.telemetry.catalogue import COUNTED, LOOKED_AT, PREFIX, Metric
from overmind_agent.telemetry.labels import Clamp

Sample = tuple[str, float, tuple[str, ...]]
"""Name without the prefix, value, and values of the labels in the order of the catalogue."""

Labels = Mapping[str, object]
NONE: Final[Labels] = MappingProxyType({})

_KINDS: Final[dict[str, Any]] = {"counter": prometheus_client.Counter, "histogram": prometheus_client.Histogram}
_FAMILIES: Final[dict[str, Any]] = {"counter": CounterMetricFamily, "gauge": GaugeMetricFamily}
_LOOKED_AT: Final = {metric.name: metric for metric in LOOKED_AT}


@dataclass(frozen=True)
class Page:
    """What a scraper reads."""

    content_type: str
    body: bytes


class Meters:
    """
    Counts, and shows what was counted. Safe to use from any thread.

    Args:
        look: what can only be looked at, asked for whenever somebody reads the figures.
    """

    def __init__(self, look: Callable[[], Iterable[Sample]]) -> None:
        # The moment at which a series began would be a series more for each of them.
        prometheus_client.disable_created_metrics()
        self._registry = prometheus_client.CollectorRegistry(auto_describe=False)
        self._made = {metric.name: self._make(metric) for metric in COUNTED}
        self._clamp = Clamp()
        self._registry.register(_Looking(look, self._clamp))
        prometheus_client.ProcessCollector(registry=self._registry)

    def _make(self, metric: Metric) -> Any:
        more = {"buckets": metric.buckets} if metric.buckets else {}
        return _KINDS[metric.kind](
            f"{PREFIX}{metric.name}", metric.help, metric.labels, registry=self._registry, **more
        )

    def count(self, name: str, labels: Labels = NONE, *, amount: float = 1) -> None:
        """Add *amount* to the counter *name*; one that is no amount is left out."""
        if amount >= 0:
            self._of(name, labels).inc(amount)

    def observe(self, name: str, value: float, labels: Labels = NONE) -> None:
        """Put *value* into the histogram *name*."""
        self._of(name, labels).observe(value)

    def _of(self, name: str, labels: Labels) -> Any:
        made = self._made[name]
        return made.labels(**{key: self._clamp(key, value) for key, value in labels.items()}) if labels else made

    def page(self, accept: str = "") -> Page:
        """All figures now, in the form that *accept* (of HTTP) asks for."""
        try:
            encode, content_type = exposition.choose_encoder(accept)
        except (TypeError, ValueError):  # a version in it that is no number
            encode, content_type = exposition.choose_encoder("")
        return Page(content_type, encode(self._registry))

    def write(self, path: Path) -> None:
        """Put all figures into the file *path*, in one step. Raises OSError."""
        prometheus_client.write_to_textfile(str(path), self._registry)


class _Looking:
    """A collector, as the registry wants one."""

    def __init__(self, look: Callable[[], Iterable[Sample]], clamp: Clamp) -> None:
        self._look = look
        self._clamp = clamp

    def collect(self) -> Iterator[Any]:
        """One family for each metric that there is something to say of."""
        found: dict[str, dict[tuple[str, ...], float]] = {}
        for name, value, labels in self._look():
            keys = _LOOKED_AT[name].labels
            clamped = tuple(self._clamp(key, given) for key, given in zip(keys, labels, strict=True))
            of_name = found.setdefault(name, {})
            of_name[clamped] = of_name.get(clamped, 0) + value  # two that are `other` are one series
        for name, samples in found.items():
            metric = _LOOKED_AT[name]
            family = _FAMILIES[metric.kind](f"{PREFIX}{name}", metric.help, labels=metric.labels)
            for labels, value in samples.items():
                family.add_metric(labels, value)
            yield family
