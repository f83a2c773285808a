"""What a namespace holds, said without any of the code under test: the oracle of the properties.

`canonical` walks the object graph and gives a text for each variable: content, types, who is the same object as whom,
whose memory an array looks into and at what offset, what may be written to. Two namespaces with equal texts cannot be
told apart by what these tests do.
"""

from __future__ import annotations

import collections
import enum
import types

import numpy as np
import pandas as pd

ATOMS = (int, float, str, bool, complex, bytes, range)


def canonical(namespace, names):
    """The text of each variable. Objects are numbered in the order in which they are met, from the first name on."""
    walk = Walk(namespace)
    return {name: walk.text(namespace[name]) for name in sorted(names)}


def owner(array):
    while True:
        base = array.base.base if type(array.base).__name__ == "DummyArray" else array.base  # of NumPy's stride tricks
        if not isinstance(base, np.ndarray):
            return array
        array = base


def address(array):
    return array.__array_interface__["data"][0]


class Walk:
    def __init__(self, namespace):
        self.namespace = namespace
        self.numbers = {}
        self.memories = {}
        self.kept = []

    def all(self, parts):
        return ",".join(self.text(part) for part in parts)

    def text(self, o):
        kind = type(o)
        if o is None or kind in ATOMS or o is ... or isinstance(o, (np.generic, np.dtype)):
            return f"{kind.__name__}:{o!r}"
        if kind is types.ModuleType:
            return f"module {o.__name__}"
        if self.is_imported(o):
            return f"import {o.__module__}.{o.__qualname__}"
        if kind is types.CellType:
            try:
                return self.numbered(o) or self.number(o) + "cell(" + self.text(o.cell_contents) + ")"
            except ValueError:
                return "cell()"
        if kind in (tuple, frozenset):
            parts = [self.text(part) for part in o]
            return f"{kind.__name__}({','.join(parts if kind is tuple else sorted(parts))})"
        if kind is slice:
            return f"slice({self.all((o.start, o.stop, o.step))})"
        if kind is types.MethodType or (kind is types.BuiltinFunctionType and o.__self__ is not None):
            return f"method {o.__name__} of {self.text(o.__self__)}"
        if isinstance(o, enum.Enum):
            return f"member {o.name} of {self.text(kind)}"
        return self.numbered(o) or self.number(o) + self.content(o, kind)

    def numbered(self, o):
        return f"#{self.numbers[id(o)]}" if id(o) in self.numbers else None

    def number(self, o):
        self.numbers[id(o)] = len(self.numbers)
        self.kept.append(o)
        return f"{self.numbers[id(o)]}="

    def is_imported(self, o):
        if isinstance(o, type):
            return o.__module__ != self.namespace["__name__"]
        if isinstance(o, types.BuiltinFunctionType):
            return o.__self__ is None or isinstance(o.__self__, types.ModuleType)
        return (
            isinstance(o, types.FunctionType)
            and o.__globals__ is not self.namespace
            and "<locals>" not in o.__code__.co_qualname
        )

    def content(self, o, kind):
        if isinstance(o, np.ndarray):
            return self.array(o, kind)
        if isinstance(o, (pd.DataFrame, pd.Series)):
            return self.frame(o, kind)
        if isinstance(o, pd.Index):
            return f"{kind.__name__}{o.tolist()}{o.names}"
        if kind is types.FunctionType:
            return self.function(o)
        if isinstance(o, type):
            return self.class_(o)
        if isinstance(o, (staticmethod, classmethod)):
            return f"{kind.__name__}({self.text(o.__func__)})"
        if kind is property:
            return f"property({self.all((o.fget, o.fset, o.fdel))})"
        if kind is types.MappingProxyType:
            return f"proxy({self.text(dict(o))})"
        if kind is memoryview:
            return f"memoryview({self.text(o.obj)}){o.format}{o.shape}"
        if kind is bytearray:
            return f"bytearray{bytes(o)!r}"
        if isinstance(o, collections.deque):
            return f"{kind.__name__}{o.maxlen}[{self.all(o)}]{self.attributes(o)}"
        if isinstance(o, list):
            return f"{kind.__name__}[{self.all(o)}]{self.attributes(o)}"
        if isinstance(o, dict):
            factory = self.text(o.default_factory) if isinstance(o, collections.defaultdict) else ""
            pairs = ",".join(f"{self.text(k)}:{self.text(v)}" for k, v in o.items())
            return f"{kind.__name__}{factory}{{{pairs}}}{self.attributes(o)}"
        if isinstance(o, set):
            return f"{kind.__name__}{{{','.join(sorted(map(self.text, o)))}}}{self.attributes(o)}"
        if isinstance(o, tuple):
            return f"{kind.__name__}({self.all(tuple.__iter__(o))}){self.attributes(o)}"
        if hasattr(o, "__length_hint__"):
            return f"{kind.__name__}({self.all(o.__reduce__()[1:])})"
        if isinstance(o, BaseException):
            return f"<{self.text(kind)}>({self.all(o.args)}){self.attributes(o)}"
        if kind.__name__ == "partial":
            return f"partial({self.all((o.func, o.args, o.keywords))}){self.attributes(o)}"
        if kind.__name__ == "_lru_cache_wrapper":
            return f"lru_cache({self.text(o.__wrapped__)}{o.cache_parameters()})"
        return f"<{self.text(kind)}>{self.attributes(o)}"

    def attributes(self, o):
        text = ""
        held = getattr(o, "__dict__", None)
        if held:
            text = ".__dict__" + self.text(held)
        for cls in type(o).__mro__:
            for name in sorted(k for k, v in vars(cls).items() if isinstance(v, types.MemberDescriptorType)):
                if cls.__module__ == self.namespace["__name__"] and hasattr(o, name):
                    text += f".{name}={self.text(getattr(o, name))}"
        return text

    def array(self, o, kind):
        own = owner(o)
        where = f" {'is' if own is o else 'in'} {self.memory(own)} at {address(o) - address(own)}"
        head = f"{kind.__name__} {o.dtype!r}{o.shape}{o.strides}{o.flags.writeable}{where}"
        if isinstance(o, np.ma.MaskedArray):
            head += f"mask{np.ma.getmaskarray(o).tolist()}"
        if o.dtype.hasobject:
            return f"{head}[{self.all(o.ravel().tolist())}]"
        return f"{head}{o.tolist()!r}"

    def memory(self, own):
        """Whose memory it is: an array's own, in whatever shape, or that of what lies under it."""
        under = own.base.obj if isinstance(own.base, memoryview) else own.base
        if isinstance(under, (bytes, bytearray)):
            start = address(np.frombuffer(under, "u1"))
            return f"{self.text(under)}+{address(own) - start}"
        if id(own) in self.memories:
            return f"memory {self.memories[id(own)]}"
        self.memories[id(own)] = len(self.memories)
        self.kept.append(own)
        cells = np.asarray(own).ravel(order="K").tolist()
        return f"memory {self.memories[id(own)]}=[{self.all(cells) if own.dtype.hasobject else cells!r}]"

    def frame(self, o, kind):
        columns = o.items() if kind is pd.DataFrame else [(o.name, o)]
        cells = "|".join(f"{name!r} {column.dtype}[{self.all(column.tolist())}]" for name, column in columns)
        return f"{kind.__name__} {o.index.tolist()}{list(o.index.names)} {cells} {self.text(o.attrs)}"

    def function(self, o):
        code = o.__code__
        cells = ",".join(self.text(cell) for cell in o.__closure__ or ())
        parts = self.all((o.__defaults__, o.__kwdefaults__, o.__dict__ or None))
        return f"function {o.__qualname__}{code.co_code.hex()}{code.co_names}{self.consts(code)}({parts})<{cells}>"

    def consts(self, code):
        return [
            (c.co_code.hex(), c.co_names, self.consts(c)) if isinstance(c, types.CodeType) else repr(c)
            for c in code.co_consts
        ]

    def class_(self, o):
        slots = (types.MemberDescriptorType, types.GetSetDescriptorType)
        own = [k for k, v in vars(o).items() if k[:2] != "__" and k != "_abc_impl" and not isinstance(v, slots)]
        inside = ",".join(f"{k}:{self.text(vars(o)[k])}" for k in sorted(own))
        return f"class {o.__qualname__}({self.all(o.__bases__)}){inside}"
