"""How executions, checkpoints and values look in a terminal, and, plainly, in a pipe."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ..client import Artifact, Checkpoint, Execution, PendingWait, Summary
from ..diffs.show import cells
from ..errors import UsageError
from ..executions import CheckpointData
from ..exporting import suffixes
from ..failures import Failure
from ..messages import conversation, transcript
from ..notices import _quoted, address_of, answer_line, ready_line, say
from ..planning import Plan
from ..previews import preview_line, table
from ..records import Answered, Value
from .events import Event
from .text import ago, ahead, block, clock_time, cut, duration, iso, line

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

__all__ = ["Screen"]

_MOST_ROWS, _SHOWN_ROWS, _MOST_LINES, _MOST_CHARACTERS = 60, 20, 200, 20_000
_PROSE = {"why", "output", "question"}  # columns of which the beginning says most
_STYLES = {
    "completed": "green",
    "failed": "red",
    "running": "cyan",
    "interrupted": "yellow",
    "cancelled": "yellow",
    "waiting": "magenta",
    "paused": "magenta",
    "rerun": "yellow",
    "rerun?": "yellow",
    "ran": "yellow",
    "edited": "cyan",
}

_WIDE = 100_000  # columns: nothing that is printed is wider


class Screen:
    """Where a command's own words go: standard output.

    On a terminal it has colours and its width, and long things are cut with a word on how to see all. In a pipe
    everything is plain, in full, and as wide as it is. What is printed never passes for markup, and holds no control
    characters but line breaks; only a value in a pipe, of text or bytes alone, is as it was recorded.
    """

    def __init__(self, *, full: bool = False, now: float) -> None:
        self._stream = sys.stdout
        self.terminal = self._stream.isatty()
        self.cuts = self.terminal and not full
        self._now = now

    @property
    def width(self) -> int:
        """How long a line may be."""
        return shutil.get_terminal_size().columns if self.cuts else _WIDE

    # ------------------------------------------------------------ the parts

    def say(self, text: str = "", style: str = "") -> None:
        """Some lines of text."""
        self._show(block(text), style)

    def _console(self) -> Console:
        from rich.console import Console

        width = shutil.get_terminal_size().columns if self.terminal else _WIDE
        return Console(
            file=self._stream,
            force_terminal=self.terminal,
            width=width,
            markup=False,
            highlight=False,
            emoji=False,
            soft_wrap=True,
        )

    def _show(self, text: str, style: str = "") -> None:
        if not self.terminal or not style:
            self._stream.write(f"{text}\n")
            return
        self._console().print(text, style=style)

    def _heading(self, text: str) -> None:
        self._show("")
        self._show(text, "bold")

    def _table(self, columns: Sequence[str], rows: Iterable[Sequence[str]], *, head: bool = True) -> None:
        """Rows of single lines; "status" and "decision" have colours. A column "NAME>" is aligned to the right."""
        if not self.cuts:  # nothing has to fit: a layout that negotiates widths takes a second for a thousand rows
            self._stream.writelines(f"{text}\n" for text in _lined_up(columns, rows, head=head))
            return
        from rich.table import Table
        from rich.text import Text

        table = Table(box=None, pad_edge=False, show_header=head, header_style="bold", padding=(0, 2, 0, 0))
        for name in columns:
            right = "right" if name.endswith(">") else "left"
            # What may wrap is cut first where a terminal is narrow; its cells are lines all the same.
            table.add_column(Text(name.rstrip(">")), justify=right, no_wrap=name not in _PROSE, overflow="ellipsis")  # type: ignore[arg-type]
        for row in rows:
            texts = [Text(line(cell), no_wrap=True) for cell in row]
            for name, cell in zip(columns, texts, strict=True):
                if name in {"status", "decision"}:
                    cell.stylize(_STYLES.get(cell.plain, ""))
            table.add_row(*texts)
        self._print(table)

    def _print(self, table: Table) -> None:
        console = self._console()
        with console.capture() as captured:
            console.print(table, soft_wrap=False)
        self._stream.write("".join(f"{text.rstrip()}\n" for text in captured.get().splitlines()))

    def _facts(self, facts: Mapping[str, str]) -> None:
        width = max(map(len, facts), default=0)
        for name, text in facts.items():
            if text:
                self._show(f"  {name:<{width}}  {line(text)}")

    def _when(self, at: float) -> str:
        if self.terminal:
            return f"{clock_time(at)} ({ago(at, self._now)})"
        return iso(at) or "?"

    def _until(self, at: float) -> str:
        """A moment to come."""
        if self.terminal:
            return f"{clock_time(at)} ({ahead(at, self._now)})" if at > self._now else clock_time(at)
        return iso(at) or "?"

    # ------------------------------------------------------------ waits

    def waits(self, waits: Sequence[tuple[str, PendingWait]]) -> None:
        """What executions wait for."""
        self._table(
            ("execution", "wait", "question", "takes", "since", "expires"),
            [
                (
                    exec_id,
                    w.name,
                    _question(w),
                    w.shape,
                    ago(w.at, self._now) if self.terminal else iso(w.at) or "?",
                    self._until(w.due) if w.due is not None else "",
                )
                for exec_id, w in waits
            ],
        )

    def _waits(self, e: Execution) -> None:
        """What an execution waits for, or would go on with; and the commands for either."""
        waits = {} if e.status.is_finished else e.data.waits.open
        if not waits:
            return
        closed = {w: a for w, a in e.closings.items() if w in waits}
        self._heading("waits for")
        shown = list(waits.values())[: 2 * _SHOWN_ROWS] if self.cuts else list(waits.values())
        self._table(
            ("wait", "question", "since", "expires"),
            [
                (
                    f"  {PendingWait.of(w).name}",
                    _question(PendingWait.of(w)),
                    self._when(w.at),
                    _closed(closed[w.wait], self._when)
                    if w.wait in closed
                    else self._until(w.due)
                    if w.due is not None
                    else "",
                )
                for w in shown
            ],
            head=False,
        )
        self._rest(f"{len(waits) - len(shown):,} more" if len(shown) < len(waits) else "")
        asked = [w for w in waits.values() if w.wait not in closed and w.about in {"answer", "doubt"}]
        self._show("")
        for w in asked[:3]:
            self._facts({"answer": answer_line(e.store, e.exec_id, w)})
        if closed or len(asked) < len(waits):
            self._facts({"go on ": ready_line(e.store)})

    # ------------------------------------------------------------ runs

    def runs(self, summaries: Sequence[Summary]) -> None:
        """The executions of a store."""
        self._table(
            ("execution", "flow", "status", "begun", "took>"),
            [
                (
                    s.exec_id,
                    s.flow,
                    s.status.value,
                    ago(s.begun, self._now) if self.terminal else iso(s.begun) or "?",
                    duration(s.at - s.begun) if s.status.is_finished else "",
                )
                for s in summaries
            ],
        )

    # ------------------------------------------------------------ an execution

    def execution(self, e: Execution) -> None:
        """One execution: where it stands, its inputs, its checkpoints as a tree, its end."""
        d, status = e.data, e.status.value
        self._show(f"{line(e.exec_id)}  {line(e.flow)}  {status}", f"bold {_STYLES.get(status, '')}")
        ended = d.ended if d.ended is not None else self._now if status == "running" else None
        ended = None if status == "waiting" else ended
        self._facts(
            {
                "fork of": _origin(e),
                "begun": self._when(d.begun.at),
                "took": duration(ended - d.begun.at) if ended is not None else "",
                "attempts": str(d.attempts) if d.attempts > 1 else "",
                "store": e.store.url,
                "code": d.begun.script or d.begun.module,
                "logged": _logged(d.metadata),
            }
        )
        self._values("inputs", d.begun.arguments)
        self._tree(e)
        self._waits(e)
        again = {s.name for s in d.saved if s.version > 1}
        self._values("saved", [(a.ref if a.name in again else a.name, a._value) for a in map(e.saved, d.saved)])
        self._values("result", [("", d.result)] if d.result is not None else [])
        if e.failure is not None:
            self._heading(f"failed {f'at {line(e.failed_at)}' if e.failed_at else 'in its own body'}")
            self._show(f"  {line(e.failure.summary())}", "red")
        if status in {"failed", "interrupted"}:
            look = address_of(e.store, f"{e.exec_id}:{e.failed_at}") if e.failed_at else ""
            self._facts(
                {
                    "look": f"kitaru show {_quoted(look)}" if look else "",
                    "resume": "in a notebook: %kitaru open " + address_of(e.store, e.exec_id)
                    if d.begun.by_hand
                    else f"kitaru resume {_quoted(address_of(e.store, e.exec_id))}",
                }
            )

    def _values(self, heading: str, values: Iterable[tuple[str, Value]]) -> None:
        rows = [(f"  {name}", preview_line(dict(value.preview), 100)) for name, value in values]
        if rows:
            self._heading(heading)
            self._table(("name", "value"), rows, head=False)

    def _tree(self, e: Execution) -> None:
        ordered = list(_in_tree(e.data.checkpoints))
        if not ordered:
            return
        self._heading(f"{len(ordered):,} checkpoint{'s' if len(ordered) > 1 else ''}")
        left_out = len(ordered) - 2 * _SHOWN_ROWS if self.cuts and len(ordered) > _MOST_ROWS else 0
        rows = [
            (
                str(c.index),
                f"{'  ' * (len(c.path) - 1)}{c.path[-1]}",
                "superseded" if c.superseded else c.status,
                "reused" if c.reused_from else duration(c.took) if c.ended is not None else "",
                str(c.attempts) if c.attempts > 1 and c.opened is None else "",
                _outcome(c),
            )
            for c in (ordered[:_SHOWN_ROWS] + ordered[-_SHOWN_ROWS:] if left_out else ordered)
        ]
        if left_out:
            rows.insert(_SHOWN_ROWS, ("…", f"{left_out:,} more", "", "", "", ""))
        self._table(("@>", "checkpoint", "status", "took>", "tries>", "output"), rows)
        self._rest(f"{left_out:,} checkpoints in the middle are left out" if left_out else "")

    def _rest(self, what: str) -> None:
        if what:
            self._show(f"… {what}; all of it: the same command with --full", "dim")

    # ------------------------------------------------------------ a plan

    def plan(self, plan: Plan) -> None:
        """What a fork does with each step, or did; and what that saves."""
        shown = plan.shown
        rows = [
            (
                shown[row.step],
                row.decision,
                row.why,
                duration(row.took),
                f"{row.tokens:,.0f}" if row.tokens is not None else "",
            )
            for row in plan
        ]
        left_out = len(rows) - 2 * _SHOWN_ROWS if self.cuts and len(rows) > _MOST_ROWS else 0
        if left_out:
            rows[_SHOWN_ROWS:-_SHOWN_ROWS] = [(f"… {left_out:,} more", "", "", "", "")]
        columns = ["step", "decision", "why", "took>", "tokens>"]
        kept = [n for n in range(len(columns)) if n < 3 or any(row[n] for row in rows)]
        self._table([columns[n] for n in kept], [[row[n] for n in kept] for row in rows])
        self._rest(f"{left_out:,} steps in the middle are left out" if left_out else "")
        for note in plan.notes:
            self._show(line(note), "yellow")
        if plan.summary:
            self._show(plan.summary, "bold")

    # ------------------------------------------------------------ a checkpoint

    def checkpoint(self, c: Checkpoint) -> None:
        """What one step left."""
        d = c.data
        self._show(f"{line(d.label)}  {d.status}", f"bold {_STYLES.get(d.status, '')}")
        self._facts(
            {
                "number": f"@{d.index}",
                "type": d.type or "",
                "started": self._when(d.started),
                "took": duration(d.took) if d.ended is not None else "",
                "tries": str(d.attempts) if d.attempts > 1 and d.opened is None else "",
                "reused": f"from {d.reused_from[0]}" if d.reused_from else "",
                **self._asked(d, c.execution),
                "note": "superseded: another call stands at its place since the code changed" if d.superseded else "",
                "address": c.address,
            }
        )
        self._values("inputs", d.arguments)
        self._values("outputs", d.outputs)
        if (chat := conversation(c)) is not None:
            self._heading("transcript")
            self._long(transcript(chat.messages, usage=chat.usage, cost=chat.cost))
        if c.metadata:
            self._heading("logged")
            self._facts({line(k): _short(v) for k, v in c.metadata.items()})
        if c.failure is not None:
            self._heading("failure")
            self._long(failure_text(c.failure))
        if c.source:
            self._heading("source, as it ran")
            self._long(c.source)

    def _asked(self, d: CheckpointData, e: Execution) -> dict[str, str]:
        """What the wait of a step asked, and what closed it."""
        if d.opened is None:
            return {}
        answer = d.answer or (None if e.status.is_finished else e.closings.get(d.opened.wait))
        asked = PendingWait.of(d.opened)
        return {
            "asked": _question(asked),
            "expires": self._until(asked.due) if asked.due is not None else "",
            "closed": _closed(answer, self._when) if answer is not None else "",
            "answer": answer_line(e.store, e.exec_id, d.opened) if answer is None and asked.shape else "",
        }

    def _long(self, text: str) -> None:
        kept, rest = cut(text, _MOST_LINES, _MOST_CHARACTERS) if self.cuts else (text, "")
        self.say(kept.rstrip("\n"))
        self._rest(rest)

    # ------------------------------------------------------------ a value

    def value(self, a: Artifact) -> None:
        """A value in full. In a pipe it stands alone, and text and bytes are as they were recorded."""
        if not self.terminal and (raw := _raw(a)) is not None:
            self._stream.flush()
            self._stream.buffer.write(raw)
            return
        if self.terminal:
            kind = f"{a.kind}{f', {a.type}' if a.type else ''}"
            self._show(f"{line(a.ref)}  {line(preview_line(a.preview, 60))}", "bold")
            self._show(f"{line(kind)}, {a.size:,} bytes, sha256 {a.digest[:12]}…", "dim")
        if a.kind != "reference" and not {"dtype", "mode", "shape"}.isdisjoint(a.preview):
            self._sample(a)
            return
        if a.kind == "pickle":
            self._show(
                f"{preview_line(a.preview, 300)}\npickled in whole or in part: loading it would run code, so what is "
                f"pickled stands here as its size. In Python: kitaru.load({a.address!r})"
            )
        elif a.kind == "bytes":
            self.say(
                f"{preview_line(a.preview, 300)}\nbytes are not printed on a terminal: kitaru show "
                f"{_quoted(a.address)} -o FILE"
            )
            return
        self._long(_readable(a.to_json()))

    def _sample(self, a: Artifact) -> None:
        """What the preview of an array, a frame or an image holds: the whole of it is for other programs."""
        self.say(preview_line(a.preview, 400))
        found, rest = table(a.preview), ""
        if found is not None and found.names:
            more = ["…"] if found.more_columns else []
            labels = found.labels or list(map(str, range(len(found.rows))))
            # A name that ends with ">" itself is none that is to be aligned.
            head = [
                "",
                *(f"{n}>" if _is_number(t) else f"{n} " for n, t in zip(found.names, found.dtypes, strict=True)),
            ]
            rows = [[label, *row, *more] for label, row in zip(labels, found.rows, strict=True)]
            self._show("")
            self._table([*head, *more], [["", *found.dtypes, *more], *rows])
            rest = f"{found.more_rows:,} more rows; " if found.more_rows else ""
        where = _quoted(address_of(a._execution.store, f"{a._execution.exec_id}:{a.ref}"))
        say(f"kitaru: {rest}all of it: kitaru show {where} -o FILE{suffixes(a)[0]}")

    # ------------------------------------------------------------ a log

    def log(self, events: Iterable[Event]) -> None:
        """What happened, in order of time."""
        self._table(
            ("time", "event", "where", "text"),
            [
                (
                    clock_time(e.at) if self.terminal else iso(e.at) or "?",
                    e.kind,
                    e.where,
                    _logged(e.data) if e.kind == "logged" else e.text,
                )
                for e in events
            ],
            head=False,
        )


def _origin(e: Execution) -> str:
    """What it was forked from, as `kitaru show` takes it."""
    return address_of(e.store, e.forked_from) if e.forked_from is not None else ""


def failure_text(f: Failure) -> str:
    """A failure as Python prints it, causes first, notes last."""
    parts = []
    if f.cause is not None:
        parts += [failure_text(f.cause), "", "The above exception was the direct cause of the following exception:", ""]
    elif f.context is not None and not f.suppressed:
        parts += [
            failure_text(f.context),
            "",
            "During handling of the above exception, another exception occurred:",
            "",
        ]
    parts.append(f.traceback or f"{f.type.rpartition(':')[2]}: {f.message}")
    for n, member in enumerate(f.group, 1):
        parts += [f"  member {n}:", *(f"  | {text}" for text in failure_text(member).split("\n"))]
    return "\n".join([*parts, *f.notes])


def _in_tree(checkpoints: Sequence[CheckpointData]) -> Iterable[CheckpointData]:
    """Each one after the one around it, before that one's next neighbour."""
    ids = {c.id for c in checkpoints}
    inside: dict[Any, list[CheckpointData]] = {}
    for c in checkpoints:
        inside.setdefault(c.parent if c.parent in ids else None, []).append(c)
    todo = inside.get(None, [])[::-1]
    while todo:
        c = todo.pop()
        yield c
        todo += inside.get(c.id, [])[::-1]


def _question(w: PendingWait) -> str:
    """What a wait waits for."""
    return {"child": "for that execution to end", "sleep": "for its time"}.get(w.about, w.question)


def _closed(a: Answered, when: Callable[[float], str]) -> str:
    """What closed a wait, in words."""
    who = f" by {a.who}" if a.who and a.how in {"answered", "aborted"} else ""
    why = f": {a.reason}" if a.reason else ""
    return f"{a.how}{who} at {when(a.at)}{why}"


def _outcome(c: CheckpointData) -> str:
    if c.opened is not None and c.status == "waiting":
        return _question(PendingWait.of(c.opened))
    if c.failure is not None:
        return c.failure.summary()
    shown = [preview_line(dict(v.preview), 80) for _, v in c.outputs]
    return shown[0] if len(shown) == 1 else "; ".join(f"{n}={p}" for (n, _), p in zip(c.outputs, shown, strict=True))


def _short(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, default=str, ensure_ascii=False)


def _logged(data: Mapping[str, Any]) -> str:
    return " ".join(f"{key}={_short(value)}" for key, value in data.items())


def _lined_up(columns: Sequence[str], rows: Iterable[Sequence[str]], *, head: bool) -> Iterator[str]:
    """Rows as lines whose columns stand below each other, each as wide as it needs."""
    table = [[name.rstrip(">") for name in columns]] if head else []
    table += [[line(cell) for cell in row] for row in rows]
    widths = [max(map(cells, column)) for column in zip(*table, strict=True)]
    for row in table:
        parts = []
        for name, cell, width in zip(columns, row, widths, strict=True):
            fill = " " * (width - cells(cell))
            parts.append(fill + cell if name.endswith(">") else cell + fill)
        yield "  ".join(parts).rstrip()


def _is_number(dtype: str) -> bool:
    return dtype.lower().startswith(("int", "uint", "float", "decimal", "double"))


def _raw(a: Artifact) -> bytes | None:
    """What a value of text or bytes alone consists of; None for any other."""
    if a.kind not in {"text", "bytes"}:
        return None
    match a.to_json():
        case str(text):
            return text.encode("utf-8", "surrogatepass")
        case {"$str": [{"$bytes": str(data)}]} | {"$bytes": str(data)}:
            return bytes.fromhex(data)
    return None


def _readable(plain: Any) -> str:
    """Text as itself, anything else as JSON."""
    match plain:
        case str():
            return plain
        case {"$str": [{"$bytes": str(data)}]}:  # text that UTF-8 cannot hold
            return bytes.fromhex(data).decode("utf-8", "surrogatepass")
    try:
        return json.dumps(plain, indent=2, ensure_ascii=False)
    except RecursionError:
        raise UsageError(
            "this value is nested too deeply to be printed: load it in Python, kitaru.load(ADDRESS)"
        ) from None
