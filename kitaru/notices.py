"""What Kitaru says on stderr: one line at a time, never in the way."""

from __future__ import annotations

import datetime as dt
import json
import os
import sys
import warnings
from collections.abc import Callable, Iterable

from .errors import KitaruError, KitaruWarning
from .location import default_would_find
from .records import Opened
from .refs import format_address
from .schemas import sample
from .stores.base import Store

__all__ = [
    "address_of",
    "answer_line",
    "failure_lines",
    "moment_of",
    "name_of_wait",
    "ready_line",
    "replay_line",
    "resume_line",
    "say",
    "shown_by",
    "tell_suspended",
    "waiting_lines",
    "warn",
]


_HERE = os.path.dirname(__file__) + os.sep


def say(line: str) -> None:
    """Print one line on stderr; a closed stderr is no reason to fail."""
    try:
        sys.stderr.write(f"{line}\n")
        sys.stderr.flush()
    except (OSError, ValueError):
        pass


_showing: list[Callable[[Store, str, str], bool]] = []


def shown_by(show: Callable[[Store, str, str], bool]) -> Callable[[], None]:
    """From now on, `show` is asked to show each execution that suspends in this process; gives what ends that.

    Parameters
    ----------
    show
        Takes the store, the exec_id, and the lines that stderr would get. It gives True where it shows that itself.
        Called in the thread that ran the execution, which has let go of it.

    Examples
    --------
    >>> import kitaru
    >>> from kitaru.stepping import shown_by
    >>> @kitaru.flow
    ... def review() -> bool:
    ...     return kitaru.wait(name="verdict", schema=bool)
    >>> store, seen = kitaru.connect("memory://shown"), []
    >>> end = shown_by(lambda store, exec_id, lines: seen.append(exec_id) or True)
    >>> handle = review.run()
    >>> end()
    >>> seen == [handle.exec_id]
    True
    >>> store = kitaru.connect()
    """
    _showing.append(show)
    return lambda: _showing.remove(show)


def tell_suspended(store: Store, exec_id: str, lines: str) -> None:
    """Tell whoever is there that an execution suspended; on stderr, where nobody shows it otherwise."""
    if not any(show(store, exec_id, lines) for show in [*_showing]):
        say(lines)


def warn(message: str) -> None:
    """Warn whoever wrote the code that called Kitaru: the line named is theirs."""
    level, frame = 1, sys._getframe()
    while frame.f_back is not None and frame.f_code.co_filename.startswith(_HERE):
        level, frame = level + 1, frame.f_back
    warnings.warn(message, KitaruWarning, stacklevel=level)


def address_of(store: Store, ref: str) -> str:
    """`ref` as a command in this place takes it: with the store in front unless the default search finds it."""
    try:
        found = default_would_find(store)
    except KitaruError:
        found = False
    return ref if found else format_address(store.url, ref)


def failure_lines(
    store: Store, exec_id: str, flow: str, failed_at: str | None, summary: str, go_on: str | None = None
) -> str:
    """What to tell whoever meets a failed execution: what failed, where to look, how to go on."""
    where = f"at {failed_at}" if failed_at else "in its own body"
    look = f"{exec_id}:{failed_at}" if failed_at else exec_id
    return (
        f"kitaru: {flow} failed {where}: {summary}\n"
        f"kitaru: look    kitaru show {_quoted(address_of(store, look))}\n"
        f"{go_on or resume_line(store, exec_id)}"
    )


def waiting_lines(store: Store, exec_id: str, waits: Iterable[Opened]) -> str:
    """What to tell whoever has an execution that waits: for what, and what answers it or goes on."""
    lines, several = [], list(waits)
    children = [w.wait for w in several if w.about == "child"]
    for w in several:
        name = name_of_wait(w.wait)
        if w.about == "sleep":
            lines.append(f"kitaru: {exec_id} sleeps until {moment_of(w.due or 0.0)}")
        elif w.about != "child":
            asked = f': "{_line(w.question)}"' if w.question else ""
            lines.append(f"kitaru: {exec_id} waits for {name}{asked}")
            lines.append(f"kitaru: answer  {answer_line(store, exec_id, w)}")
    if children:
        more = f" and {len(children) - 3} more" if len(children) > 3 else ""
        lines.append(f"kitaru: {exec_id} waits for {', '.join(children[:3])}{more}")
    if (len(children) < len(several) and not any(w.about in {"answer", "doubt"} for w in several)) or children:
        lines.append(f"kitaru: go on   {ready_line(store)}")
    return "\n".join(lines)


def answer_line(store: Store, exec_id: str, w: Opened) -> str:
    """The command that answers a wait, with an answer that would do."""
    answer = json.dumps(sample(w.schema), ensure_ascii=False)
    where = _quoted(address_of(store, exec_id))
    return f"kitaru answer {where} {_quoted(name_of_wait(w.wait))} {_quoted(answer)}"


def name_of_wait(wait: str) -> str:
    """How a wait is named to whoever answers it: its path, without what nobody needs."""
    label = wait.rpartition("@")[0]
    return label.removesuffix("#1")


def moment_of(due: float) -> str:
    """A moment, in this machine's time zone."""
    return f"{dt.datetime.fromtimestamp(due, dt.UTC).astimezone():%Y-%m-%d %H:%M:%S %Z}"


def _line(text: str) -> str:
    line = " ".join("".join(letter if letter.isprintable() else " " for letter in text[:1000]).split())
    return line if len(line) <= 200 else line[:199] + "…"


def ready_line(store: Store) -> str:
    """The command that goes on with all that can."""
    store_of = address_of(store, "x").removesuffix("x").rstrip("/")
    return "kitaru resume --ready" + (f" --store {_quoted(store_of)}" if store_of else "")


def resume_line(store: Store, exec_id: str, *, block: bool = False) -> str:
    """The command that goes on with an execution: where its body is that of a `with`, the one that came to it."""
    if block:
        return f"kitaru: go on   run the same command again, with KITARU_EXEC_ID={exec_id}"
    return f"kitaru: resume  kitaru resume {_quoted(address_of(store, exec_id))}"


def replay_line(store: Store, exec_id: str) -> str:
    """The command that forks an execution."""
    return f"kitaru replay {_quoted(address_of(store, exec_id))}"


def _quoted(word: str) -> str:
    from shlex import quote

    return word if word and all(c.isalnum() or c in "/:.@#_-+,=%~" for c in word) and word[0] != "#" else quote(word)
