"""The flow of the demonstration: a licence audit in twelve steps, whatever is installed.

It is written as a user's own would be, with public names alone. Packages are dealt with inside of the twelve, each in
a step of its own, side by side.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from importlib import metadata
from typing import Any, Literal

from .. import checkpoint, flow, llm, log, save, wait
from .licences import CATEGORIES, POLICY, category_of, declared, in_text, is_expression, parts_of
from .rules import MODEL, ask

__all__ = ["STEPS", "audit"]

Package = dict[str, Any]

_MOST_TEXT = 64 * 1024  # characters of one licence file
_LICENCE_FILE = re.compile(r"(?:^|/)(?:licen[sc]e|copying|notice|unlicense)[^/]*$", re.IGNORECASE)
_COPYRIGHT = re.compile(r"^\W*(copyright\b.{0,200}\d{4}.{0,200})$", re.IGNORECASE | re.MULTILINE)
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


def _same(name: str) -> str:
    """A package's name as it compares: "Flask_Cors" is "flask-cors"."""
    return re.sub(r"[-_.]+", "-", name).lower()


def _said(about: metadata.PackageMetadata, field: str) -> str | None:
    return next((f"{text}" for text in about.get_all(field) or []), None)


# ---------------------------------------------------------------- 1, 2: what is installed


@checkpoint
def collect(limit: int) -> list[Package]:
    """The first `limit` packages that are installed here, by name, with what their metadata says."""
    found: dict[str, metadata.Distribution] = {}
    for one in metadata.distributions():
        if name := _said(one.metadata, "Name"):  # a half-removed package has none
            found.setdefault(_same(name), one)
    packages = []
    for key in sorted(found)[:limit]:
        about = found[key].metadata
        packages.append(
            {
                "name": _said(about, "Name"),
                "version": _said(about, "Version") or "?",
                "expression": _said(about, "License-Expression"),
                "licence": _said(about, "License"),
                "classifiers": [c for c in about.get_all("Classifier") or [] if c.startswith("License ::")],
                "requires": sorted({_same(m.group()) for r in found[key].requires or [] if (m := _NAME.match(r))}),
            }
        )
    log(installed=len(found), audited=len(packages))
    return packages


@checkpoint
def read_texts(name: str) -> list[dict[str, str]]:
    """The licence files that one package brought along."""
    texts = []
    for file in metadata.distribution(name).files or []:
        if ".dist-info/" in f"{file}" and _LICENCE_FILE.search(f"{file}"):
            try:
                text = file.locate().read_text(encoding="utf-8", errors="replace")  # type: ignore[attr-defined]
            except OSError:  # listed, and not there
                continue
            inside = f"{file}".partition(".dist-info/")[2].removeprefix("licenses/")
            texts.append({"file": inside, "text": text[:_MOST_TEXT]})
    return sorted(texts, key=lambda text: (text["file"].count("/"), text["file"]))


@checkpoint
def read_licences(names: list[str]) -> dict[str, list[dict[str, str]]]:
    """The licence texts of each package."""
    return dict(zip(names, [texts.result() for texts in read_texts.map(names)], strict=True))


# ---------------------------------------------------------------- 3, 4: what they say


@checkpoint
def normalise(packages: list[Package]) -> dict[str, dict[str, str | None]]:
    """What each package declares, as an SPDX expression, and where it says so."""
    out: dict[str, dict[str, str | None]] = {}
    for package in packages:
        ends = [c.rpartition(" :: ")[2] for c in package["classifiers"]]
        of_classifiers = sorted({name for end in ends if (name := declared(end))})
        licence = package["licence"] or ""
        if package["expression"] and is_expression(package["expression"]):
            said, source = package["expression"], "License-Expression"
        elif (name := declared(licence)) is not None:
            said, source = name, "License"
        elif of_classifiers:  # several classifiers do not say whether "and" or "or" is meant
            said, source = (of_classifiers[0], "classifier") if len(of_classifiers) == 1 else (None, "classifiers")
        elif len(licence) > 200 and (names := in_text(licence)):
            said, source = " AND ".join(names), "text in License"
        else:
            said, source = None, "nothing"
        out[package["name"]] = {"expression": said, "source": source}
    return out


@checkpoint
def classify_one(name: str, claim: dict[str, str | None], texts: list[dict[str, str]]) -> dict[str, Any]:
    """One package: what it declares, held against what its licence files say."""
    found = list(
        dict.fromkeys(licence for text in texts if "/" not in text["file"] for licence in in_text(text["text"]))
    )
    expression, source = claim["expression"], claim["source"]
    doubt = ""
    if expression is None and len(found) == 1:
        expression, source = found[0], "licence file"
    elif expression is None:
        doubt = f"it declares {source}, and its files hold {', '.join(found) or 'no known licence'}"
    elif expression == "BSD" and (exact := [f for f in found if f.startswith("BSD")]):
        expression, source = exact[0], f"{source} and licence file"
    elif found and not set(found) & {_plain(part) for part in parts_of(expression)} and expression != "BSD":
        doubt = f"it declares {expression}, and its files hold {', '.join(found)}"
    return {"name": name, "licence": expression or "unknown", "source": source, "found": found, "doubt": doubt}


def _plain(licence: str) -> str:
    return licence.removesuffix("-only").removesuffix("-or-later")


@checkpoint
def classify(claims: dict[str, dict[str, str | None]], texts: dict[str, list[dict[str, str]]]) -> list[dict[str, Any]]:
    """A verdict on each package, side by side."""
    verdicts = classify_one.map(claims, claims.values(), [texts[name] for name in claims])
    return [verdict.result() for verdict in verdicts]


# ---------------------------------------------------------------- 5, 6: what they leave open


@checkpoint
def find_unclear(verdicts: list[dict[str, Any]]) -> list[str]:
    """The packages on which nothing certain can be said."""
    return [v["name"] for v in verdicts if v["doubt"] or category_of(v["licence"]) == "unknown"]


@checkpoint(type="llm_call")
def ask_model(question: dict[str, Any]) -> dict[str, Any]:
    """Ask the built-in rule model about one package."""
    answer = ask(question)
    log(model=MODEL, tokens=answer["tokens"], cost=0.0)
    return answer


@dataclass
class Judgement:
    """What another model is to answer."""

    licence: Literal[
        "MIT", "BSD-3-Clause", "Apache-2.0", "GPL-3.0", "LGPL-3.0", "MPL-2.0", "PSF-2.0", "ISC", "Unlicense", "unknown"
    ]
    confidence: float


@checkpoint
def judge(question: dict[str, Any], model: str) -> dict[str, Any]:
    """Ask a model of some provider, or the one on this machine, about one package."""
    lines = [f"The package {question['name']} says:", *question["said"], *(text[:600] for text in question["texts"])]
    answer: Judgement = llm(
        "\n".join(lines),
        model=model,
        schema=Judgement,
        instructions="Under which licence is this Python package? Say how sure you are, from 0 to 1.",
        settings={"max_tokens": 200},
        retries=2,
    )
    sure = min(max(answer.confidence, 0.0), 1.0)
    return {"licence": answer.licence, "confidence": sure, "reasons": [], "by": model}


@checkpoint
def review_unclear(
    unclear: list[str],
    packages: list[Package],
    verdicts: list[dict[str, Any]],
    texts: dict[str, list[dict[str, str]]],
    model: str = MODEL,
) -> dict[str, dict[str, Any]]:
    """Have the model decide what the rules leave open."""
    about = {p["name"]: p for p in packages}
    doubts = {v["name"]: v["doubt"] for v in verdicts}
    questions = [
        {
            "name": name,
            "said": [
                *(s for s in (about[name]["expression"], (about[name]["licence"] or "")[:500]) if s),
                *about[name]["classifiers"],
                doubts[name],
            ],
            "texts": [text["text"][:2000] for text in texts[name][:3]],
        }
        for name in unclear
    ]
    asked = ask_model.map(questions) if model == MODEL else judge.map(questions, [model] * len(questions))
    return dict(zip(unclear, [answer.result() for answer in asked], strict=True))


# ---------------------------------------------------------------- 7 to 10: what follows


@checkpoint
def check_policy(verdicts: list[dict[str, Any]], reviewed: dict[str, dict[str, Any]]) -> dict[str, dict[str, str]]:
    """The ruling on each package."""
    rulings = {}
    for verdict in verdicts:
        name, licence, by = verdict["name"], verdict["licence"], verdict["source"]
        answer = reviewed.get(name)
        if answer is not None and answer["licence"] != "unknown" and answer["confidence"] >= 0.5:
            licence, by = answer["licence"], f"{answer.get('by', MODEL)}, {answer['confidence']:.0%} sure"
        category = category_of(licence)
        ruling, asks = POLICY[category]
        rulings[name] = {"licence": licence, "by": by, "category": category, "ruling": ruling, "asks": asks}
    return rulings


@checkpoint
def find_conflicts(packages: list[Package], rulings: dict[str, dict[str, str]]) -> list[dict[str, str]]:
    """Packages that ask less than something which they cannot do without."""
    names = {_same(p["name"]): p["name"] for p in packages}
    conflicts = []
    for package in packages:
        own = CATEGORIES.index(rulings[package["name"]]["category"])
        for need in package["requires"]:
            other = rulings.get(names.get(need, ""))
            if other is not None and other["category"] == "strong copyleft" and own < 2:
                conflicts.append({"package": package["name"], "needs": names[need], "licence": other["licence"]})
    return conflicts


@checkpoint
def notices(texts: dict[str, list[dict[str, str]]], rulings: dict[str, dict[str, str]]) -> dict[str, list[str]]:
    """The copyright lines that have to be passed on."""
    out = {}
    for name, ruling in rulings.items():
        lines = [" ".join(m.group(1).split()) for text in texts[name] for m in _COPYRIGHT.finditer(text["text"])]
        if ruling["category"] != "unknown":
            out[name] = list(dict.fromkeys(lines))[:20]
    return out


@checkpoint
def score(rulings: dict[str, dict[str, str]], conflicts: list[dict[str, str]]) -> dict[str, int]:
    """The risk of each package: 0 to 100."""
    points = {"permissive": 0, "weak copyleft": 20, "strong copyleft": 60, "unknown": 80}
    scores = {name: points[ruling["category"]] for name, ruling in rulings.items()}
    for conflict in conflicts:
        scores[conflict["package"]] = min(100, scores[conflict["package"]] + 20)
    return scores


# ---------------------------------------------------------------- 11, 12: what to tell


@checkpoint
def summarise(
    rulings: dict[str, dict[str, str]], scores: dict[str, int], conflicts: list[dict[str, str]]
) -> dict[str, Any]:
    """The figures, and what somebody has to look at."""
    return {
        "packages": len(rulings),
        "rulings": dict(sorted(Counter(r["ruling"] for r in rulings.values()).items())),
        "licences": dict(sorted(Counter(r["licence"] for r in rulings.values()).items(), key=lambda n: (-n[1], n[0]))),
        "conflicts": len(conflicts),
        "look_at": sorted((n for n, points in scores.items() if points >= 60), key=lambda n: (-scores[n], n)),
    }


@checkpoint
def write_report(
    summary: dict[str, Any],
    packages: list[Package],
    rulings: dict[str, dict[str, str]],
    conflicts: list[dict[str, str]],
    attributions: dict[str, list[str]],
) -> str:
    """The report, as Markdown."""
    lines = ["# Licence audit", "", f"{summary['packages']} packages are installed here that were looked at.", ""]
    for ruling, what in (("allowed", "allowed"), ("conditions", "on conditions"), ("decision", "need a decision")):
        lines.append(f"- {summary['rulings'].get(ruling, 0)} {what}")
    lines += [f"- {summary['conflicts']} conflicts", ""]
    if summary["look_at"]:
        lines += ["## To decide", ""]
        lines += [f"- {_cell(n)}: {_cell(rulings[n]['licence'])}; {rulings[n]['asks']}" for n in summary["look_at"]]
        lines.append("")
    if conflicts:
        lines += ["## Conflicts", ""]
        lines += [f"- {_cell(c['package'])} needs {_cell(c['needs'])} ({_cell(c['licence'])})" for c in conflicts]
        lines.append("")
    lines += ["## Packages", "", "| package | version | licence | ruling | known from |", "|---|---|---|---|---|"]
    for package in packages:
        r = rulings[package["name"]]
        row = (package["name"], package["version"], r["licence"], r["ruling"], r["by"])
        lines.append(f"| {' | '.join(map(_cell, row))} |")
    lines += ["", "## Notices", ""]
    lines += [f"- {_cell(name)}: {_cell('; '.join(said))}" for name, said in attributions.items() if said]
    report = "\n".join(lines) + "\n"
    save("report", report, type="report")
    return report


def _cell(text: str) -> str:
    """Text of others, harmless in a Markdown table."""
    text = "".join(c if c.isprintable() else " " for c in text)
    return re.sub(r"([\\`*_\[\]<>|])", r"\\\1", text) if len(text) <= 2000 else _cell(text[:1999] + "…")


# ---------------------------------------------------------------- the flow


def _to_approve(reviewed: dict[str, dict[str, Any]]) -> str:
    """What a person is asked."""
    if not reviewed:
        return "No licence is unclear. Shall the report be written?"
    said = [f"{name}: {a['licence']} ({a['confidence']:.0%} sure)" for name, a in reviewed.items()]
    more = f"; and {len(said) - 5} more" if len(said) > 5 else ""
    return f"The model says on unclear licences: {'; '.join(said[:5])}{more}. May that stand?"


@flow
def audit(limit: int = 20, approve: bool = False, model: str = MODEL) -> str:
    """Audit the licences of the first `limit` installed packages; gives the report.

    What is unclear is judged by the built-in rule model, or by another `model`: see `kitaru.llm`.
    With `approve` it asks whether the model's verdicts on unclear licences may stand, and waits for the answer.
    """
    packages = collect(limit)
    texts = read_licences([p["name"] for p in packages])
    claims = normalise(packages)
    verdicts = classify(claims, texts)
    unclear = find_unclear(verdicts)
    reviewed = review_unclear(unclear, packages, verdicts, texts, model)
    if approve and not wait(name="approval", schema=bool, question=_to_approve(reviewed), metadata=reviewed):
        reviewed = {}  # nobody vouches for them: they stay unknown
    rulings = check_policy(verdicts, reviewed)
    conflicts = find_conflicts(packages, rulings)
    attributions = notices(texts, rulings)
    scores = score(rulings, conflicts)
    summary = summarise(rulings, scores, conflicts)
    return write_report(summary, packages, rulings, conflicts, attributions)


STEPS = (
    collect,
    read_licences,
    normalise,
    classify,
    find_unclear,
    review_unclear,
    check_policy,
    find_conflicts,
    notices,
    score,
    summarise,
    write_report,
)
"""The steps that `audit` calls, in their order."""
