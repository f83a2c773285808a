"""The built-in rule model: which licence a package is probably under, where its own words leave that open.

It stands where a language model would: it is asked a question, gives an answer with its confidence and its reasons,
and counts the tokens that it read. It weighs words, and answers the same every time.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

__all__ = ["MODEL", "ask"]

MODEL = "licence-rules-1"

_CUES: dict[str, tuple[tuple[str, float], ...]] = {
    "MIT": ((r"\bmit\b", 2.0), (r"\bexpat\b", 2.0), (r"free of charge", 1.0), (r"sublicense", 0.5)),
    "BSD-3-Clause": ((r"\bbsd\b", 2.0), (r"redistributions? (?:of|in)", 1.0), (r"neither the name", 1.5)),
    "Apache-2.0": ((r"\bapache\b", 2.0), (r"version 2\.0", 0.5), (r"\bnotice\b file", 0.5)),
    "GPL-3.0": ((r"\bgpl\b", 2.0), (r"gnu general public", 2.0), (r"\bcopyleft\b", 1.0)),
    "LGPL-3.0": ((r"\blgpl\b", 3.0), (r"gnu lesser", 3.0)),
    "MPL-2.0": ((r"\bmpl\b", 2.0), (r"mozilla public", 2.0)),
    "PSF-2.0": ((r"\bpsfl?\b", 2.0), (r"python software foundation", 2.0)),
    "ISC": ((r"\bisc\b", 2.0), (r"with or without fee", 1.0)),
    "Unlicense": ((r"public domain", 1.5), (r"\bunlicense\b", 3.0)),
}
_UNSURE = 1.0  # the weight of "none of these"


def ask(question: Mapping[str, Any]) -> dict[str, Any]:
    """Answer a question about one package.

    Parameters
    ----------
    question
        `name`, `said` (what its metadata says, as a list of texts) and `texts` (what its licence files begin with).

    Returns
    -------
    dict
        `licence`, an SPDX name or "unknown"; `confidence`, 0 to 1; `reasons`, the words that it went by; `tokens`.

    Examples
    --------
    >>> answer = ask({"name": "x", "said": ["Dual: BSD or so"], "texts": []})
    >>> answer["licence"], answer["reasons"]
    ('BSD-3-Clause', ['bsd'])
    """
    said, read = "\n".join(question["said"]).lower(), "\n".join([*question["said"], *question["texts"]]).lower()
    weights, reasons = {"unknown": _UNSURE}, {"unknown": list[str]()}
    for licence, cues in _CUES.items():
        found = [
            (m.group(), weight * (2 if re.search(pattern, said) else 1))  # its own words count twice
            for pattern, weight in cues
            if (m := re.search(pattern, read))
        ]
        weights[licence] = sum(weight for _, weight in found)
        reasons[licence] = [" ".join(words.split()) for words, _ in found]
    best = max(weights, key=lambda name: (weights[name], name))
    total = sum(math.exp(weight) for weight in weights.values())
    return {
        "licence": best,
        "confidence": round(math.exp(weights[best]) / total, 3),
        "reasons": reasons[best],
        "tokens": len(re.findall(r"\w+", read)),
    }
