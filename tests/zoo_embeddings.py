"""Vectors for tests: the words of a text, counted in as many buckets as a vector has numbers."""

from __future__ import annotations

import hashlib
import json
from typing import Any

LENGTH = 64


def bag_of_words(text: str) -> list[float]:
    """The same for the same text always; nothing but zeros for one without words."""
    vector = [0.0] * LENGTH
    for word in text.lower().split():
        vector[hashlib.sha256(word.encode()).digest()[0] % LENGTH] += 1
    return vector


def embeddings(body: dict[str, Any]) -> bytes:
    """The answer to a request for embeddings, as OpenAI's API has it."""
    texts = body["input"]
    asked = sum(len(text.split()) for text in texts)
    answer = {
        "object": "list",
        "data": [{"object": "embedding", "index": n, "embedding": bag_of_words(t)} for n, t in enumerate(texts)],
        "model": body["model"],
        "usage": {"prompt_tokens": asked, "total_tokens": asked},
    }
    return json.dumps(answer).encode()
