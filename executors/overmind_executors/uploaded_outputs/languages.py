"""In which language a text probably is: by the little words that no sentence does without."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from typing import Final

UNKNOWN: Final = "unknown"
_MOST_LETTERS: Final = 2000
_WORD: Final = re.compile(r"[^\W\d_]+")
# So many little words of a language, and so many times those of any other, make it that one.
_LEAST: Final = 2
_TIMES: Final = 1.5
_LITTLE_WORDS: Final[Mapping[str, frozenset[str]]] = {
    name: frozenset(words.split())
    for name, words in {
        "de": "der die das und ist sind nicht ein eine zu den mit von auf für es im dem wie wir sie auch",
        "en": "the of and is are was to in that it for with this you not on as have be by from what how",
        "es": "el la los las de y es una un que en por para con no se del como más su al lo está",
        "fr": "le la les des et est une un que qui dans pour pas sur avec vous nous ce il elle du au",
        "it": "il lo gli le di e è una un che in per con non si del della come più sono anche nel",
        "nl": "de het een en is van in dat niet zijn op te met voor er maar ook aan wat wij naar",
        "pl": "i w na z do że nie się to jest jak o po za od ale czy dla przez co tak",
        "pt": "o os as de e é uma um que em por para com não se do da como mais seu ao são no na",
        "sv": "och att det som en är på för av med inte den har till om vi ett var kan jag",
    }.items()
}


def language_of(text: str) -> str:
    """Two letters of ISO 639, or `unknown` where too little or nothing clear is said."""
    words = Counter(word.lower() for word in _WORD.findall(text[:_MOST_LETTERS]))
    hits = {name: sum(words[word] for word in little) for name, little in _LITTLE_WORDS.items()}
    (best, most), (_, next_most) = sorted(hits.items(), key=lambda pair: (-pair[1], pair[0]))[:2]
    return best if most >= _LEAST and most >= _TIMES * next_most else UNKNOWN
