"""What a model's tokens cost: by the host's configuration, else by the published price list, else unknown."""

from __future__ import annotations

import contextlib
import ipaddress
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from importlib.metadata import version
from typing import Any, Final
from urllib.parse import urlsplit

from overmind_executors.calls.answers import Answer
from overmind_executors.contract import ModelEndpoint

Prices = tuple[float, float]
PRICE_COLUMNS: Final = ("model", "US dollars for a million tokens in", "for a million tokens out", "from", "of")


@dataclass(frozen=True)
class PriceNote:
    """
    Where a cost comes from, for whoever reads it later.

    Attributes:
        input_price, output_price: US dollars per million tokens.
        source: `host`, or the price list with its version.
        as_of: the date of the prices as the host's owner gave it, ISO 8601; None for what its source does not say.
    """

    input_price: float
    output_price: float
    source: str
    as_of: str | None


def prices_of(endpoint: ModelEndpoint) -> Prices | None:
    """
    US dollars per million tokens in and out for *endpoint*.

    Returns:
        None when neither the host's configuration nor the list of genai-prices (if installed) knows them: never 0.
    """
    writes_nothing = 0.0 if endpoint.kind == "embeddings" else None
    output_price = writes_nothing if endpoint.output_price is None else endpoint.output_price
    if endpoint.input_price is not None and output_price is not None:
        return endpoint.input_price, output_price
    if endpoint.input_price is not None or endpoint.output_price is not None or _is_local(endpoint.base_url):
        return None
    return _published(endpoint)


def price_note(endpoint: ModelEndpoint) -> PriceNote | None:
    """The prices of *endpoint* and where they are from, None when they are not known."""
    prices = prices_of(endpoint)
    if prices is None:
        return None
    if endpoint.input_price is not None:
        return PriceNote(*prices, source="host", as_of=endpoint.prices_as_of or None)
    return PriceNote(*prices, source=f"genai-prices {version('genai-prices')}", as_of=None)


def price_notes(endpoints: Iterable[ModelEndpoint]) -> dict[str, dict[str, Any] | None]:
    """The price notes of *endpoints* by name, as a summary has them; None for a model whose price nobody knows."""
    notes = {endpoint.name: price_note(endpoint) for endpoint in endpoints}
    return {name: None if note is None else asdict(note) for name, note in notes.items()}


def price_rows(notes: Mapping[str, Mapping[str, Any] | None]) -> tuple[tuple[str | float | None, ...], ...]:
    """The rows of a report's table with the columns PRICE_COLUMNS."""
    nothing = dict.fromkeys(("input_price", "output_price", "source", "as_of"))
    return tuple((name, *(note or nothing).values()) for name, note in notes.items())


def cost_usd(answer: Answer, prices: Prices | None) -> float | None:
    """US dollars for *answer*, None when a price or a count of tokens is unknown."""
    if prices is None or answer.prompt_tokens is None or answer.completion_tokens is None:
        return None
    return round((answer.prompt_tokens * prices[0] + answer.completion_tokens * prices[1]) / 1_000_000, 10)


def _is_local(url: str) -> bool:
    host = urlsplit(url).hostname or ""
    with contextlib.suppress(ValueError):
        return not ipaddress.ip_address(host).is_global
    return host == "localhost" or "." not in host


def _published(endpoint: ModelEndpoint) -> Prices | None:
    try:
        # Half a second to import: only here, and only when it is needed.
        from genai_prices import Usage, calc_price
    except ImportError:
        return None
    million = 1_000_000
    try:
        price = calc_price(
            Usage(input_tokens=million, output_tokens=million), endpoint.model, provider_api_url=endpoint.base_url
        )
    except (LookupError, ValueError):
        return None
    return float(price.input_price), float(price.output_price)
