"""Random small cells, and what really happens to the names of the namespace when they run."""

from __future__ import annotations

import dis
import functools
import sys

DATA, CODE, HELD = "abcd", "fgh", "LM"  # numbers, functions and classes, and what holds code
NAMES = frozenset([*DATA, *CODE, *HELD, "A", "e", "i"])
BASE = """
import functools, contextlib
a = b = c = i = 1
def f(*given): return b
def g(): yield a; yield f()
g = g()
def h(): return g, c
class A:
    def m(*given): return a
    @staticmethod
    def n(*given): return h
    @property
    def o(self): return b
L = [h]; M = {0: f, 1: A.m}
"""


class Enough(BaseException):
    """The cell has run for long enough."""


@functools.cache
def instructions(code):
    return {i.offset: (i.opname, i.argval) for i in dis.get_instructions(code)}


class Watch:
    """Every load, store and deletion of a global, whatever code does it, seen by tracing each bytecode instruction."""

    def __init__(self, namespace, limit=2_000):
        self.namespace, self.left = namespace, limit
        self.read, self.loaded, self.bound, self.deleted = set(), set(), set(), set()

    def __call__(self, frame, event, arg):
        if frame.f_globals is not self.namespace:
            return None
        frame.f_trace_opcodes = True
        if event == "opcode":
            self.left -= 1
            if not self.left:
                raise Enough
            self.see(frame, *instructions(frame.f_code)[frame.f_lasti])
        return self

    def see(self, frame, op, name):
        if name not in NAMES:
            return
        own = frame.f_locals is not self.namespace and frame.f_code.co_name != "<module>"
        if op in {"LOAD_NAME", "LOAD_GLOBAL", "LOAD_FROM_DICT_OR_GLOBALS"}:
            if op != "LOAD_GLOBAL" and own and name in frame.f_locals:
                return  # of a class's own scope
            self.loaded.add(name)
            if name not in self.bound:
                self.read.add(name)
        elif op == "STORE_GLOBAL" or (op == "STORE_NAME" and not own):
            self.bound.add(name)
        elif op == "DELETE_GLOBAL" or (op == "DELETE_NAME" and not own):
            self.deleted.add(name)

    def run(self, code):
        before = sys.gettrace()
        sys.settrace(self)
        try:
            exec(code, self.namespace)
        except (Exception, Enough):
            pass
        finally:
            sys.settrace(before)


def indent(text):
    return "\n".join("  " + line for line in text.split("\n"))


class Writer:
    """Writes random programs. By a plain generator: drawing every choice on its own costs a hundred times the run."""

    def __init__(self, random):
        self.random = random

    def one(self, choices):
        return self.random.choice(choices)

    def perhaps(self, text, often=0.3):
        return text if self.random.random() < often else ""

    def data(self):
        return self.one(DATA)

    def code(self):
        return self.one(CODE)

    def target(self):
        return self.one(DATA + CODE)

    def name(self):
        return self.one(DATA * 3 + CODE * 3 + HELD + "Aie")

    def value(self, depth=2):
        kinds = self.LEAVES if depth == 0 else self.LEAVES + self.VALUES
        return self.one(kinds)(self, lambda: self.value(depth - 1))

    LEAVES = (
        lambda self, inner: self.name(),
        lambda self, inner: str(self.random.randint(0, 2)),
        lambda self, inner: f"{self.code()}()",
    )
    VALUES = (
        lambda self, inner: f"{self.code()}()",
        lambda self, inner: f"({inner()} or {inner()})",
        lambda self, inner: f"({inner()} and ({self.name()} := {inner()}))",
        lambda self, inner: f"({inner()} if {inner()} else {inner()})",
        lambda self, inner: f"[{inner()} for i in (1, {inner()}) if {inner()}]",
        lambda self, inner: f"list({self.name()} for i in (0, 1) for e in ({inner()}, i))",
        lambda self, inner: f"(lambda i={inner()}: {inner()})",
        lambda self, inner: f"(lambda: {inner()})()",
        lambda self, inner: f"functools.partial({inner()})",
        lambda self, inner: f"f'{{{self.name()}}} {{{self.name()}!r}}'",
        lambda self, inner: f"M[{self.random.randint(0, 1)}]()",
        lambda self, inner: "L[-1]()",
        lambda self, inner: f"next({self.code()})",
        lambda self, inner: f"[({self.data()} := {self.name()}) for i in (1,)]",
        lambda self, inner: f"(0 < {inner()} < ({self.data()} := 1))",
        lambda self, inner: f"A.{self.one('mn')}({inner()})",
        lambda self, inner: f"A().{self.one('mno')}",
        lambda self, inner: f"{self.one('LM')}.{self.one(['append', 'get', 'pop'])}",
    )

    def block(self, depth=2, within=""):
        return "\n".join(self.statement(depth, within) for _ in range(self.random.randint(1, 3)))

    def statement(self, depth, within):
        kinds = self.SIMPLE if depth == 0 else self.SIMPLE + self.COMPOUND
        text = self.one(kinds)(self, lambda inside=within: indent(self.block(depth - 1, inside)), within)
        if self.random.random() < 0.4:
            text = f"try:\n{indent(text)}\nexcept {self.one(['Exception', 'NameError'])}: pass"
        return text

    def leave(self, within):
        if "loop" in within and self.random.random() < 0.5:
            return self.one(["break", "continue"])
        return f"assert {self.value()}, {self.value()}"

    def function(self, block):
        changed = [n for n in DATA if self.random.random() < 0.3]
        lines = [f"global {', '.join(changed)}"] if changed else []
        if self.random.random() < 0.4:
            lines.append(f"inner = {self.value()}\ndef nested():\n  return inner, {self.value()}")
            last = ["return nested", "return nested()", "yield nested"]
        else:
            last = [f"return {self.value()}", f"yield {self.value()}", "pass"]
        head = self.one(["", "", "", "@functools.cache\n", f"@{self.code()}\n"])
        given = self.one(["", "", f"i={self.value()}", f"*, i: {self.value()} = 0"])
        return (
            f"{head}def {self.code()}({given}):\n"
            + indent("\n".join(lines)) * bool(lines)
            + "\n"
            + block("function")
            + "\n"
            + indent(self.one(last))
        )

    def definition(self, block):
        head = self.one(["", "", "  @staticmethod\n", "  @property\n", f"  @{self.code()}\n"])
        return (
            f"class A{self.one(['', '', '(A)'])}:\n{self.perhaps('  global a' + chr(10))}{block('class')}\n"
            f"{head}  def {self.one('mno')}(*given):\n{indent(block('function'))}"
        )

    SIMPLE = (
        lambda self, block, within: f"{self.target()} = {self.value()}",
        lambda self, block, within: f"{self.target()} = {self.value()}",
        lambda self, block, within: self.value(),
        lambda self, block, within: f"{self.data()} += {self.value()}",
        lambda self, block, within: f"del {self.target()}",
        lambda self, block, within: f"L.append({self.value()})",
        lambda self, block, within: f"M[{self.random.randint(0, 1)}] = {self.value()}",
        lambda self, block, within: self.leave(within),
    )
    COMPOUND = (
        lambda self, block, within: f"if {self.value()}:\n{block()}\nelse:\n{block()}",
        lambda self, block, within: f"if {self.value()}:\n{block()}",
        lambda self, block, within: (
            f"for {self.target()} in (1, {self.value()}):\n{block(within + ' loop')}\nelse:\n{block()}"
        ),
        lambda self, block, within: f"while {self.value()}:\n{block(within + ' loop')}\n  break\nelse:\n{block()}",
        lambda self, block, within: (
            f"try:\n{block()}\nexcept {self.one(['NameError', 'Exception'])} as e:\n{block()}"
            + self.perhaps(f"\nelse:\n{block()}")
            + self.perhaps(f"\nfinally:\n{block('')}")
        ),
        lambda self, block, within: f"try:\n{block()}\nexcept* Exception as e:\n{block('')}",
        lambda self, block, within: (
            f"with contextlib.{self.one(['suppress(Exception)', 'nullcontext()'])} as {self.target()}:\n{block()}"
        ),
        lambda self, block, within: self.function(block),
        lambda self, block, within: self.function(block),
        lambda self, block, within: self.definition(block),
        lambda self, block, within: (
            f"match {self.value()}:\n  case 1: {self.target()} = {self.value()}\n"
            f"  case [{self.data()}, *_] if {self.value()}: pass\n  case {self.data()}:\n{indent(block())}"
        ),
    )
