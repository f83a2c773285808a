"""What makes a cell wild: code that reaches variables by another way than their names.

A wild cell may touch anything, and the whole namespace is looked at. So each rule here is as narrow as it can be and
still be right: `model.eval()` and `json.load(f)` are in every other notebook.
"""

from __future__ import annotations

import re
from collections.abc import Collection

__all__ = ["TEXTS", "WILD_NAMES", "WILD_VALUES", "is_wild", "names_in_text"]

WILD_NAMES = frozenset({
    "__import__", "breakpoint", "cffi", "ctypes", "eval", "exec", "get_ipython", "globals",
})  # fmt: skip
WILD_VALUES = (eval, exec, globals, breakpoint, __import__)  # held by a partial, a container, another name

# An attribute, whatever it is taken from. `__main__` is one where a module imports it.
_ATTRIBUTES = frozenset({
    "__globals__", "__main__", "_getframe", "currentframe", "f_back", "f_globals", "f_locals", "get_objects",
    "get_referrers", "post_mortem", "run_ast_nodes", "run_cell", "run_cell_async", "run_cell_magic", "run_code",
    "run_line_magic", "set_trace", "testmod", "user_global_ns", "user_module", "user_ns",
})  # fmt: skip

# An attribute that is wild where one of these names is read too.
_PICKLES = frozenset({"cloudpickle", "dill", "joblib", "pickle", "shelve"})
_PAIRS = {
    "embed": frozenset({"IPython"}),
    "evaluate": frozenset({"ne", "numexpr"}),  # looks up the variables of its caller
    "execute": frozenset({"duckdb"}),
    "import_module": frozenset({"importlib"}),
    "load": _PICKLES,
    "loads": _PICKLES,
    "main": frozenset({"unittest"}),
    "modules": frozenset({"sys"}),
    "sql": frozenset({"duckdb", "pl", "polars"}),  # a table of that name is a variable of its caller
    "stack": frozenset({"inspect"}),
    "trace": frozenset({"inspect"}),
}

TEXTS = frozenset({"eval", "query"})  # pandas' own: a text that is there to be read names its variables
_AT = re.compile(r"@([^\W\d]\w*)")
_WORD = re.compile(r"(?<![\w.])[^\W\d]\w*")


def is_wild(attribute: str, reads: Collection[str], strings: Collection[str]) -> bool:
    """Whether an attribute of this name may lead to variables, in code that reads and holds these."""
    if attribute in _ATTRIBUTES:
        return True
    names = _PAIRS.get(attribute)
    if names is None or names.isdisjoint(reads):
        return False
    return attribute != "import_module" or "__main__" in strings


def names_in_text(attribute: str, text: str) -> list[str]:
    """The variables that a text of `df.query` or `pd.eval` may name."""
    return (_WORD if attribute == "eval" else _AT).findall(text)
