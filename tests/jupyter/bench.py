"""A namespace in which cells are run and followed, as a notebook would, without a kernel; and a restart."""

from __future__ import annotations

import ast
import itertools
import linecache
import sys
import types

import kitaru
from kitaru.sessions import looking
from kitaru_jupyter.capture import touches_of
from kitaru_jupyter.capture.documents import runs_code, unrestorable_in
from kitaru_jupyter.capture.tracker import Tracker

_numbers = itertools.count(1)


class Bench:
    """One process of a notebook: its `__main__`, its tracker."""

    def __init__(self, hidden=()):
        self.module = types.ModuleType("__main__")
        self.ns = self.module.__dict__
        self.ns["__builtins__"] = __builtins__
        self.tracker = Tracker(self.ns, hidden)
        self.error = None

    def execute(self, source):
        """Run a cell's code as IPython would: its text can be found again by its file name."""
        name = f"<cell {next(_numbers)}>"
        linecache.cache[name] = (len(source), None, source.splitlines(keepends=True), name)
        before, sys.modules["__main__"] = sys.modules["__main__"], self.module
        self.error = None
        try:
            exec(compile(source, name, "exec", dont_inherit=True), self.ns)
        except Exception as e:
            self.error = e.with_traceback(None)
        finally:
            sys.modules["__main__"] = before

    def cell(self, source, album=None):
        """A recorded cell, which `album` keeps; gives its changes."""
        touches = touches_of(ast.parse(source), self.ns)
        with looking():
            self.found = self.tracker.before(touches)
        self.execute(source)
        with looking():
            changes = self.tracker.after(touches)
            if album is not None:
                album.keep(self.tracker)
        return changes

    def plain(self, source):
        """A cell that is not recorded."""
        touches = touches_of(ast.parse(source), self.ns)
        self.execute(source)
        self.tracker.plain(touches)
        self.tracker.plain(touches_of(ast.parse(source), self.ns))


class Album:
    """Checkpoints of a bench's namespace, kept in a store: what a notebook would record."""

    def __init__(self):
        self.session = kitaru.Session("capture", store=kitaru.connect(f"memory://capture-{next(_numbers)}"))
        self.values = {}  # token → artifact
        self.states = []
        self.lost_in = {}  # token → what could not be recorded

    def keep(self, tracker):
        """Record what is not recorded yet; the state is a token for each group. Gives its number."""
        pending = tracker.pending()
        step = self.session.step("cell", {}, source="")
        values = {f"v{n}": tracker.value_of(group) for n, group in enumerate(pending)}
        lost = {group: unrestorable_in(values[f"v{n}"]) for n, group in enumerate(pending)}
        step.succeed(values)
        if pending:
            checkpoint = self.session.execution().checkpoints[-1]
            outputs = {a.name.rpartition(".")[2]: a for a in checkpoint.artifacts}
            for n, group in enumerate(pending):
                artifact = outputs.get(f"v{n}") or checkpoint.artifacts[n]
                token = (group, len(self.values))
                self.values[token] = artifact
                self.lost_in[token] = lost[group]
                tracker.record(group, token)
        self.states.append({group: tracker.token(group) for group in tracker.groups()})
        return len(self.states) - 1

    def lost(self, number):
        """What of a state could not be recorded, by its place."""
        return {place: why for token in self.states[number].values() for place, why in self.lost_in[token].items()}

    def checkout(self, number, tracker):
        """Make a tracker's namespace what it was; gives the groups that were loaded."""
        state = self.states[number]
        tracker.verify()
        difference = tracker.differing(state)
        with looking() as looks:
            loaded = {group: self.values[state[group]].load() for group in difference.load}
            if any(map(runs_code, loaded.values())):
                looks.forget()
            tracker.restore(loaded, difference.remove, {group: state[group] for group in loaded})
        return set(loaded)
