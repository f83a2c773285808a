"""A group of variables as one plain value that Kitaru's codecs record: a document, and the way back.

A document is a dict: `{"kitaru.document": 1, "variables": {NAME: NODE}, "sources": [TEXT]}`. A node is plain data as
it is, an array or a frame that shares nothing as it is, or a dict whose key "$" says what it is:

==============  ====================================================================================================
`def`, `ref`    what is met again later on, and where: `n` is its number
`dict`          with keys that are no text, or that look like these: `items` one after the other
`tuple` …       `set`, `frozenset`: `items`
`array`         one that may not be written to, of another order, or of objects: `body` or `cells`
`view`          into the memory of `base`; `buffer`: into that of `of`: bytes, a bytearray
`subclass`      of NumPy's array: `type`, `array`, and what the instance holds
`import`        code that is imported, "module:qualname"; `module`
`variable`      the class or function of the notebook that the variable of this name holds
`function`      `source` is an index of the document's `sources`, `code` the qualified name in there; or `module`
`class`         made by running its statement; `type`: without one. `cell`, `method`, `bound`, `property` … likewise
`instance`      of `type`, with its `state`; `object`: what `make` gives for `args`. `items`, `pairs`: put in it later
`member`        of an enum; `namedtuple`, `lru_cache`, `logger`, `memoryview`, `step`, `flow`, `typevar`
`lost`          what cannot be restored: its type, why, and its place
==============  ====================================================================================================

Nothing here is pickled. Looking at a document, by previews, diffs or `code_in`, runs nothing; `restored` does.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, MutableMapping, Sequence
from typing import Any, NamedTuple

from kitaru.errors import CorruptionError

from .decoding import Decoder
from .encoding import KEY, encoded
from .importable import Namespace
from .plain import DOCUMENT, plain_value

__all__ = [
    "Code",
    "Restored",
    "code_in",
    "document",
    "is_document",
    "plain_value",
    "restored",
    "runs_code",
    "unrestorable_in",
]

# Called with whatever a document says, these do nothing but hold it.
_HARMLESS = frozenset({
    "builtins:bytearray", "builtins:slice", "builtins:complex", "collections:Counter", "collections:OrderedDict",
    "collections:defaultdict", "collections:deque", "types:SimpleNamespace", "builtins:list", "builtins:dict",
    "builtins:set", "builtins:int", "builtins:float", "builtins:str", "builtins:tuple", "numpy.ma:MaskedArray",
    "numpy:ndarray",
})  # fmt: skip
# Made of nothing but these, or a library's own, nobody's code has a hand in it: a class that a variable holds has.
_DATA = frozenset({"array", "buffer", "def", "dict", "frozenset", "ref", "set", "tuple", "view"})
_LIBRARIES = frozenset({"builtins", "numpy", "pandas", "polars", "pyarrow"})
_RUNS = frozenset({"class", "function", "step", "flow", "type"})


class Code(NamedTuple):
    """What restoring a document runs, beyond putting plain data together.

    Attributes
    ----------
    imports : tuple of str
        What is imported, and may be called: "module:qualname".
    sources : tuple of str
        Statements of cells whose code comes back: those of classes are run.
    """

    imports: tuple[str, ...]
    sources: tuple[str, ...]

    @property
    def needs_trust(self) -> bool:
        """Whether it may be restored from a store that is trusted alone."""
        return bool(self.imports or self.sources)


class Restored(NamedTuple):
    """What has been made again.

    Attributes
    ----------
    variables : dict
        Their values.
    lost : dict of str to str
        The variables with something in them that could not be made again, and why.
    """

    variables: dict[str, Any]
    lost: dict[str, str]


def document(group: Sequence[str], namespace: Namespace) -> dict[str, Any]:
    """The document of the variables of a group.

    It may hold the variables' own arrays and lists: record it before anything else runs.

    >>> both = {"a": [1, 2]}
    >>> both["b"] = (both["a"], "again")
    >>> document(["a", "b"], both)["variables"]["b"]
    {'$': 'tuple', 'items': [{'$': 'ref', 'n': 0}, 'again']}
    """
    return encoded(group, namespace)


def is_document(value: Any) -> bool:
    """Whether a loaded value is a document; the variables' own values never look like one."""
    return type(value) is dict and DOCUMENT in value


def code_in(value: Any) -> Code:
    """What restoring this value would import and run. Looking runs nothing."""
    imports: dict[str, None] = {}
    sources: dict[str, None] = {}
    if is_document(value):
        texts = value.get("sources", ())
        for node in _nodes(value):
            kind = node[KEY]
            if kind == "import" and node.get("name") not in _HARMLESS:
                imports[str(node.get("name"))] = None
            elif kind in _RUNS and "module" in node:
                imports[f"{node['module']}:{node.get('code')}"] = None
            elif kind in _RUNS and type(node.get("source")) is int and node["source"] < len(texts):
                sources[texts[node["source"]]] = None
    return Code(tuple(imports), tuple(sources))


def runs_code(value: Any) -> bool:
    """Whether code of a user's may have run when this value was loaded, or will when it is restored."""
    if is_document(value):
        return any(node[KEY] not in _DATA for node in _nodes(value))
    return type(value).__module__.partition(".")[0] not in _LIBRARIES


def unrestorable_in(value: Any) -> dict[str, str]:
    """The places in a value that could not be recorded, and what was there and why."""
    if not is_document(value):
        return {}
    return {node["place"]: f"{node['type']}: {node['why']}" for node in _nodes(value) if node[KEY] == "lost"}


def _nodes(value: Any) -> Iterator[dict[str, Any]]:
    todo = [value]
    while todo:
        part = todo.pop()
        if type(part) is dict:
            if KEY in part:
                yield part
            todo += part.values()
        elif type(part) is list:
            todo += part


def restored(
    values: Mapping[tuple[str, ...], Any], namespace: MutableMapping[str, Any], remove: Iterable[str] = ()
) -> Restored:
    """The variables of loaded values and documents. The namespace is left as it is; functions will run in it.

    Parameters
    ----------
    values
        For each group what `plain_value` or `document` were for.
    remove
        Variables that will be gone: nothing is looked up in them.

    Raises
    ------
    CorruptionError
        It is no document that Kitaru wrote.
    """
    loaded, documents = {}, {}
    for group, value in sorted(values.items(), key=lambda item: item[0]):  # the same order in every process
        if is_document(value):
            documents[group] = _checked(value, group)
        elif len(group) == 1:
            loaded[group[0]] = value
        else:
            raise CorruptionError(f"what was recorded for {', '.join(group)} is no document: restore it from a copy")
    decoder = Decoder(documents, namespace, loaded, set(remove))
    try:
        return Restored(decoder.run(), decoder.lost)
    except (KeyError, IndexError, TypeError, ValueError, AttributeError) as e:
        raise CorruptionError(
            f"a document cannot be carried out ({type(e).__name__}: {e}): it is not what Kitaru wrote"
        ) from e


def _checked(value: dict[str, Any], group: Sequence[str]) -> dict[str, Any]:
    if value[DOCUMENT] != 1:
        raise CorruptionError(
            f"what was recorded for {', '.join(group)} is a document of the form {value[DOCUMENT]!r:.20}, "
            "which this Kitaru does not know: upgrade it"
        )
    if type(value.get("variables")) is not dict or sorted(value["variables"]) != sorted(group):
        raise CorruptionError(f"a document does not hold the variables {', '.join(group)}: restore it from a copy")
    return value
