"""The rules of the house: imports run one way, importing is free, the public surface is meant."""

from __future__ import annotations

import ast
import graphlib
import importlib
import inspect
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]

# Lowest first. A module imports from its own row and from the rows before it. An entry "stores" covers
# "stores.local" too, unless that has an entry of its own. "kitaru" is kitaru/__init__.py.
LAYERS = [
    {"collecting", "concealing", "errors", "ids", "clock", "moments", "refs", "eviction"},
    {"records"},
    {"codecs", "index", "stores", "hashing", "fingerprints", "glances", "samples", "schemas", "previews"},
    {"messages"},
    {"diffs.show", "exporting", "failures", "location", "sources"},
    {
        "artifacts",
        "blobs",
        "catalog",
        "documents",
        "journal",
        "notices",
        "ownership",
        "progress",
        "reading",
        "references",
        "segments",
        "waiting",
    },
    {"contents", "effects", "matching", "context", "executions"},
    {"definitions", "forks", "pools", "threads", "lineage_graph", "lineage_text", "lineages"},
    {"answers", "attempts", "calls", "history", "notes"},
    {"branches", "copying", "engine", "overrides", "planning", "replays", "staleness", "terminals", "verification"},
    {"blocks", "children", "flows", "handles", "opened", "passes", "runs", "steps", "waits"},
    {"answering", "lambdas", "lookups"},
    {"client"},
    {"api", "calling", "diffs", "repeats", "sessions", "stepping"},
    {"kitaru"},
    {"__main__", "adapters", "cli", "demo", "testing"},
]

# Imports inside a function that go up, each with its reason. (importer, imported): why
UPWARD = {
    ("flows", "client"): "what is to be replayed is named by a word that the client looks up",
    ("replays", "client"): "likewise what is to be planned",
}

# What only these rooms may import. The servers that tests start are asked as any user of boto3 would.
S3_ROOMS = {"stores/s3.py", "testing/servers.py"}
TABLES = {"codecs/columns.py", "codecs/frames.py", "codecs/polars_frames.py", "codecs/tables.py"}
BEDROCK = "adapters/http/over_botocore.py"
ONE_DOOR = {
    "boto3": S3_ROOMS, "botocore": S3_ROOMS | {BEDROCK}, "networkx": {"lineage_graph.py"},
    "pandas": TABLES | {"planning.py"}, "polars": TABLES, "pyarrow": TABLES | {"exporting.py"},
}  # fmt: skip
NEVER_IN_CORE = {"IPython", "ipywidgets", "kitaru_jupyter"}
NEVER_AT_IMPORT = {
    "IPython", "PIL", "blake3", "boto3", "botocore", "click", "jsonschema", "networkx", "numpy", "pandas", "polars",
    "pyarrow", "pydantic_ai", "rich", "tenacity",
}  # fmt: skip

PUBLIC = [
    "Child",
    "KitaruClient",
    "KitaruDivergenceError",
    "KitaruError",
    "KitaruWaitAborted",
    "KitaruWaitExpired",
    "KitaruWarning",
    "Ref",
    "Session",
    "cancelled",
    "checkpoint",
    "connect",
    "diff",
    "digest",
    "flow",
    "gather",
    "idempotency_key",
    "lambda_handler",
    "lineage",
    "llm",
    "llm_async",
    "load",
    "log",
    "now",
    "plan",
    "random",
    "record_http",
    "repeat",
    "resume_ready",
    "save",
    "sleep",
    "sleep_async",
    "spawn",
    "uuid4",
    "wait",
    "wait_async",
]
PUBLIC_MODULES = {
    "kitaru", "kitaru.calling", "kitaru.client", "kitaru.errors", "kitaru.messages", "kitaru.sessions",
    "kitaru.stepping",
}  # fmt: skip

FILES = sorted((ROOT / "kitaru").rglob("*.py"))
JUPYTER_FILES = sorted((ROOT / "kitaru_jupyter").rglob("*.py"))


def module_of(file, package="kitaru"):
    parts = file.relative_to(ROOT / package).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts) or package


MODULES = {module_of(file): file for file in FILES}


def imports(file):
    """Every import of a file: (absolute dotted name, whether it stands inside a function).

    What is imported for annotations alone (`if TYPE_CHECKING:`) is no dependency, nor is the version.
    """
    package = [*file.relative_to(ROOT).parent.parts]
    found = []

    def visit(node, lazy):
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.Import):
                found.extend((alias.name, lazy) for alias in child.names)
            elif isinstance(child, ast.ImportFrom):
                base = package[: len(package) - child.level + 1] if child.level else []
                origin = ".".join([*base, *([child.module] if child.module else [])])
                for alias in child.names:  # `from . import x` names a module, or something in one
                    found.append((f"{origin}.{alias.name}", lazy))
            elif isinstance(child, ast.If) and "TYPE_CHECKING" in ast.dump(child.test):
                continue
            visit(child, lazy or isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef))

    visit(ast.parse(file.read_text()), lazy=False)
    return [(name, lazy) for name, lazy in found if name != "kitaru.__version__"]


def own(name):
    """The module of the core that a dotted name lies in; None for other libraries."""
    if name.partition(".")[0] != "kitaru":
        return None
    parts = name.split(".")[1:]
    while parts and ".".join(parts) not in MODULES:
        parts.pop()
    return ".".join(parts) or "kitaru"


def layer(module):
    parts = module.split(".")
    for end in range(len(parts), 0, -1):
        for height, row in enumerate(LAYERS):
            if ".".join(parts[:end]) in row:
                return height
    return None


@pytest.mark.parametrize("module", MODULES)
def test_every_module_has_a_place(module):
    assert layer(module) is not None, f"kitaru/{module}: give it a place in LAYERS"


@pytest.mark.parametrize("module", MODULES)
def test_imports_run_one_way(module):
    for name, lazy in imports(MODULES[module]):
        target = own(name)
        if target is None or None in {layer(target), layer(module)} or layer(target) <= layer(module):
            continue
        assert lazy, f"{module} imports {target}, which stands above it"
        assert (module, target) in UPWARD, f"{module} imports {target} from above: say why in UPWARD"


def test_no_two_modules_import_each_other():
    graph = {
        module: {own(name) for name, lazy in imports(file) if not lazy} - {None, module}
        for module, file in MODULES.items()
    }
    graphlib.TopologicalSorter(graph).prepare()


def test_every_exception_to_the_direction_is_used():
    used = {(module, own(name)) for module, file in MODULES.items() for name, _ in imports(file)}
    assert set(UPWARD) <= used


@pytest.mark.parametrize("module", MODULES)
def test_foreign_libraries_come_in_by_one_door(module):
    file = MODULES[module]
    inside = file.relative_to(ROOT / "kitaru").as_posix()
    for name, lazy in imports(file):
        library = name.partition(".")[0]
        rooms = ONE_DOOR.get(library, {inside})
        assert inside in rooms, f"{inside} imports {library}: only {rooms} may"
        if library in NEVER_IN_CORE:
            assert (inside, library, lazy) == ("__init__.py", "kitaru_jupyter", True), f"{inside} imports {library}"


@pytest.mark.parametrize("module", MODULES)
def test_the_core_imports_itself_relatively(module):
    tree = ast.parse(MODULES[module].read_text())
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and not node.level:
            assert (node.module or "").partition(".")[0] != "kitaru", f"kitaru/{module}, line {node.lineno}"


@pytest.mark.parametrize("file", JUPYTER_FILES, ids=lambda file: file.name)
def test_the_notebook_package_uses_public_names_alone(file):
    import kitaru

    for name, _ in imports(file):
        if name.partition(".")[0] == "kitaru" and name not in PUBLIC_MODULES:
            module, _, attribute = name.rpartition(".")
            assert module in PUBLIC_MODULES, f"{file.name} imports {name}"
            assert module != "kitaru" or attribute in kitaru.__all__, f"{file.name} imports {name}"


@pytest.mark.process
def test_importing_loads_nothing_heavy():
    code = "import json, sys, kitaru; print(json.dumps(sorted(sys.modules)))"
    loaded = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True, timeout=60
    ).stdout
    assert NEVER_AT_IMPORT.isdisjoint(json.loads(loaded))


def test_the_public_surface_is_what_is_meant():
    import kitaru

    assert list(kitaru.__all__) == PUBLIC
    assert all(hasattr(kitaru, name) for name in PUBLIC)


@pytest.mark.parametrize("module", [name for name in MODULES if not name.endswith("__main__")])
def test_public_things_are_listed_in_order_and_say_what_they_are(module):
    loaded = importlib.import_module("kitaru" if module == "kitaru" else f"kitaru.{module}")
    names = getattr(loaded, "__all__", [])
    in_order = sorted(names, key=lambda name: (not name.isupper(), not name[0].isupper(), name))
    assert list(names) == in_order, "sort __all__: CONSTANTS, Classes, functions"
    assert not MODULES[module].read_text().strip() or loaded.__doc__, "a module begins with what it is for"
    for name in names:
        thing = getattr(loaded, name)
        if inspect.isclass(thing) or inspect.isroutine(thing):
            assert inspect.getdoc(thing), f"kitaru.{module}.{name} has no docstring"


# Paths of somebody's machine, and hosts of registries; spelt so that this file does not match itself.
FOREIGN = re.compile(
    r"(?<![\w.~}])/(?:root|work|home|Users)/[\w.]"
    r"|(?:pypi|python[h]osted|npmjs|proxy\.golang)\.(?:org|com)\b"
)


def test_no_file_names_a_machine_or_a_registry():
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT, capture_output=True, text=True, check=False,
    ).stdout.split("\0")  # fmt: skip
    wrong = []
    for name in filter(None, listed):
        try:
            text = (ROOT / name).read_text()
        except (UnicodeDecodeError, OSError):  # a picture, or gone meanwhile
            continue
        wrong += [f"{name}: {line.strip()[:100]}" for line in text.splitlines() if FOREIGN.search(line)]
    assert not wrong, "\n".join(wrong)


def test_the_readme_has_its_two_commands_each_on_one_line():
    text = (ROOT / "README.md").read_text()
    blocks = re.findall(r"^```[^\n]*\n(.*?)^```", text, flags=re.DOTALL | re.MULTILINE)
    lines = [line for block in blocks for line in block.splitlines()]
    commands = [line for line in lines if line.lstrip("$ ").startswith("python3") and ".venv" in line]
    assert len(commands) == 2, "one command for the demo and one for the tests, each making its own .venv"
    assert sum("demo" in line for line in commands) == 1
    assert not any(line.endswith("\\") for line in commands)
