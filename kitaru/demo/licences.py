"""Licences: their SPDX names, what they ask of those who pass software on, and how they are recognised."""

from __future__ import annotations

import re
from collections.abc import Iterator

__all__ = ["CATEGORIES", "POLICY", "category_of", "declared", "in_text", "is_expression", "parts_of"]

CATEGORIES = ("permissive", "weak copyleft", "strong copyleft", "unknown")
"""From the least to the most that is asked."""

POLICY = {
    "permissive": ("allowed", "keep its notice"),
    "weak copyleft": ("conditions", "keep its notice, and offer the source of changes to it"),
    "strong copyleft": ("decision", "what is passed on together with it comes under its terms"),
    "unknown": ("decision", "no licence that is known: ask its authors, or leave it out"),
}
"""By category: the ruling, and what it asks."""

_KNOWN = {
    "permissive": (
        "0BSD AFL-2.1 AFL-3.0 Apache-2.0 Artistic-2.0 BSD BSD-1-Clause BSD-2-Clause BSD-2-Clause-Patent BSD-3-Clause "
        "BSD-3-Clause-Clear BSD-4-Clause BSL-1.0 BlueOak-1.0.0 CC-BY-4.0 CC0-1.0 CNRI-Python HPND ICU ISC MIT MIT-0 "
        "MIT-CMU MulanPSL-2.0 NCSA OFL-1.1 PSF-2.0 Python-2.0 Python-2.0.1 Unicode-3.0 Unicode-DFS-2016 Unlicense "
        "UPL-1.0 WTFPL X11 ZPL-2.1 Zlib"
    ),
    "weak copyleft": "CDDL-1.0 EPL-1.0 EPL-2.0 LGPL-2.0 LGPL-2.1 LGPL-3.0 MPL-1.1 MPL-2.0",
    "strong copyleft": "AGPL-3.0 EUPL-1.2 GPL-2.0 GPL-3.0 OSL-3.0 SSPL-1.0",
}
_CATEGORY = {name.lower(): (name, category) for category, names in _KNOWN.items() for name in names.split()}

# What comes after "License :: OSI Approved ::", and what people write into the field License.
_SAID = {
    "academic free license (afl)": "AFL-3.0",
    "apache": "Apache-2.0",
    "boost software license 1.0 (bsl-1.0)": "BSL-1.0",
    "bsd": "BSD",
    "cc0 1.0 universal (cc0 1.0) public domain dedication": "CC0-1.0",
    "eclipse public license 2.0 (epl-2.0)": "EPL-2.0",
    "gnu affero general public license v3": "AGPL-3.0",
    "gnu affero general public license v3 or later (agplv3+)": "AGPL-3.0",
    "gnu general public license v2 (gplv2)": "GPL-2.0",
    "gnu general public license v2 or later (gplv2+)": "GPL-2.0",
    "gnu general public license v3 (gplv3)": "GPL-3.0",
    "gnu general public license v3 or later (gplv3+)": "GPL-3.0",
    "gnu lesser general public license v2 (lgplv2)": "LGPL-2.0",
    "gnu lesser general public license v2 or later (lgplv2+)": "LGPL-2.0",
    "gnu lesser general public license v3 (lgplv3)": "LGPL-3.0",
    "gnu lesser general public license v3 or later (lgplv3+)": "LGPL-3.0",
    "historical permission notice and disclaimer (hpnd)": "HPND",
    "isc": "ISC",
    "isc license (iscl)": "ISC",
    "mit no attribution license (mit-0)": "MIT-0",
    "mozilla public license 1.1 (mpl 1.1)": "MPL-1.1",
    "mozilla public license 2.0 (mpl 2.0)": "MPL-2.0",
    "mpl 2.0": "MPL-2.0",
    "psf": "PSF-2.0",
    "psfl": "PSF-2.0",
    "python software foundation": "PSF-2.0",
    "the unlicense (unlicense)": "Unlicense",
    "zlib/libpng": "Zlib",
    "zope public": "ZPL-2.1",
}
_SAID_LIKE = (
    (re.compile(r"apache(?: software)?(?: license)?,? *(?:v|version)? *2(?:\.0)?"), "Apache-2.0"),
    (re.compile(r"apache software"), "Apache-2.0"),
    (re.compile(r"(?:new |modified )?bsd[- ]3[- ]clause|3-clause bsd|new bsd"), "BSD-3-Clause"),
    (re.compile(r"(?:simplified )?bsd[- ]2[- ]clause|2-clause bsd|simplified bsd"), "BSD-2-Clause"),
    (re.compile(r"mit(?: \(?expat\)?)?"), "MIT"),
    (re.compile(r"lgpl *v?(?:ersion )?3(?:\.0)?\+?"), "LGPL-3.0"),
    (re.compile(r"lgpl *v?(?:ersion )?2\.1\+?"), "LGPL-2.1"),
    (re.compile(r"a(?:ffero )?gpl *v?(?:ersion )?3(?:\.0)?\+?"), "AGPL-3.0"),
    (re.compile(r"gpl *v?(?:ersion )?3(?:\.0)?\+?"), "GPL-3.0"),
    (re.compile(r"gpl *v?(?:ersion )?2(?:\.0)?\+?"), "GPL-2.0"),
)

# Sentences that a licence has and others have not; all of one entry must stand in the text.
_SENTENCES = (
    (
        "MIT",
        ("permission is hereby granted, free of charge, to any person obtaining a copy", "shall be included in all"),
    ),
    (
        "ISC",
        ("permission to use, copy, modify, and/or distribute this software for any purpose", "appear in all copies"),
    ),
    ("ISC", ("permission to use, copy, modify, and distribute this software for any purpose with or without fee",)),
    ("Apache-2.0", ("apache license", "version 2.0, january 2004")),
    ("Apache-2.0", ("licensed under the apache license, version 2.0",)),
    ("MPL-2.0", ("mozilla public license version 2.0",)),
    ("MPL-2.0", ("mozilla public license, v. 2.0",)),
    ("AGPL-3.0", ("gnu affero general public license version 3",)),
    ("LGPL-3.0", ("gnu lesser general public license version 3",)),
    ("LGPL-2.1", ("gnu lesser general public license version 2.1",)),
    ("GPL-3.0", ("gnu general public license version 3, 29 june 2007", "preamble")),
    ("GPL-2.0", ("gnu general public license version 2, june 1991", "preamble")),
    ("PSF-2.0", ("python software foundation license version 2",)),
    ("Zlib", ("altered source versions must be plainly marked",)),
    ("BSL-1.0", ("boost software license - version 1.0",)),
    ("Unlicense", ("this is free and unencumbered software released into the public domain",)),
    ("CC0-1.0", ("cc0 1.0 universal",)),
    ("HPND", ("permission to use, copy, modify, and distribute this software and its documentation for any purpose",)),
)
_BSD = "redistribution and use in source and binary forms"
_SPACE = re.compile(r"\s+")
_TOKEN = re.compile(r"[()]|[A-Za-z0-9.+-]+")


def category_of(expression: str) -> str:
    """What an SPDX expression asks: of alternatives (OR) the least, of what comes together (AND) the most.

    >>> category_of("MIT OR GPL-3.0-only"), category_of("BSD-3-Clause AND LGPL-2.1-or-later")
    ('permissive', 'weak copyleft')
    """
    tokens = _TOKEN.findall(expression)[:1000]
    height = _any_of(tokens) if tokens else None
    return "unknown" if height is None or tokens else CATEGORIES[height]


def is_expression(text: str) -> bool:
    """Whether `text` is an SPDX expression of licences that are all known here."""
    if not re.fullmatch(r"[A-Za-z0-9.+()\s-]{1,500}", text):
        return False
    names = parts_of(text)
    return bool(names) and all(_base(name) in _CATEGORY for name in names) and category_of(text) != "unknown"


def parts_of(expression: str) -> list[str]:
    """The licences that an expression names, without its exceptions.

    >>> parts_of("(MIT OR Apache-2.0) AND GPL-2.0 WITH Classpath-exception-2.0")
    ['MIT', 'Apache-2.0', 'GPL-2.0']
    """
    words = [word for word in _TOKEN.findall(expression) if word not in "()"]
    after = ["", *words]
    return [w for w, before in zip(words, after, strict=False) if w not in {"AND", "OR", "WITH"} and before != "WITH"]


def declared(text: str) -> str | None:
    """The SPDX expression that a classifier's end or a field of free text means; None where it says nothing known.

    >>> declared("Apache Software License"), declared("BSD 3-Clause License"), declared("UNKNOWN")
    ('Apache-2.0', 'BSD-3-Clause', None)
    """
    said = _SPACE.sub(" ", text[:200]).strip()
    if is_expression(said):
        return " ".join(_CATEGORY.get(word.lower(), (word,))[0] for word in said.split())
    low = said.lower().removeprefix("the ")
    low = low if low in _SAID else re.sub(r",? licen[sc]e$", "", low)
    if low in _SAID:
        return _SAID[low]
    return next((name for pattern, name in _SAID_LIKE if pattern.fullmatch(low)), None)


def in_text(text: str) -> list[str]:
    """The licences whose own sentences stand in `text`, in the order in which they stand there."""
    low = _SPACE.sub(" ", text).lower()
    found: dict[str, int] = {}
    for name, sentences in (*_SENTENCES, *_bsd(low)):
        if all(sentence in low for sentence in sentences):
            found.setdefault(name, low.index(sentences[0]))
    return sorted(found, key=lambda name: (found[name], name))


def _bsd(low: str) -> Iterator[tuple[str, tuple[str, ...]]]:
    """The clauses of a BSD licence differ by a sentence each."""
    if (
        "neither the name" in low
        or "the names of its contributors may not" in low
        or "names of the contributors" in low
    ):
        yield "BSD-3-Clause", (_BSD,)
    else:
        yield "BSD-2-Clause", (_BSD,)


def _base(name: str) -> str:
    return re.sub(r"(?:-only|-or-later|\+)$", "", name).lower()


# A recursive descent over the tokens that are left; each function takes off what it has understood.


def _any_of(tokens: list[str], depth: int = 0) -> int | None:
    heights = [_all_of(tokens, depth)]
    while tokens and tokens[0].upper() == "OR":
        tokens.pop(0)
        heights.append(_all_of(tokens, depth))
    return None if None in heights else min(h for h in heights if h is not None)


def _all_of(tokens: list[str], depth: int) -> int | None:
    heights = [_one(tokens, depth)]
    while tokens and tokens[0].upper() == "AND":
        tokens.pop(0)
        heights.append(_one(tokens, depth))
    return None if None in heights else max(h for h in heights if h is not None)


def _one(tokens: list[str], depth: int) -> int | None:
    if not tokens or depth > 50:
        return None
    word = tokens.pop(0)
    if word == "(":
        height = _any_of(tokens, depth + 1)
        return height if tokens and tokens.pop(0) == ")" else None
    _, category = _CATEGORY.get(_base(word), ("", "unknown"))
    height = CATEGORIES.index(category)
    if len(tokens) > 1 and tokens[0].upper() == "WITH":
        del tokens[:2]
        if category == "strong copyleft":  # an exception lets others link to it
            height -= 1
    return height
