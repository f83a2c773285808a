"""Names of executions, checkpoints and artifacts, and what they name in a store."""

from __future__ import annotations

from collections.abc import Iterator

from .catalog import rows
from .errors import AmbiguousNameError, InvalidNameError, NotFoundError
from .ids import check_exec_id
from .location import check_format, open_store
from .opened import FAILED, Artifact, Checkpoint, Execution
from .reading import read_journal
from .records import Value
from .refs import Ref, parse_address, parse_ref
from .segments import journal_key
from .stores.base import Store

__all__ = ["beginning_with", "find", "look_up", "only_output", "open_execution", "result_of"]


def open_execution(store: Store, exec_id: str) -> Execution:
    """Open the execution with exactly this exec_id."""
    check_format(store)
    reading = read_journal(store, exec_id)
    if not reading.n:
        raise NotFoundError(_no_execution(store, exec_id))
    return Execution(store, reading)


def find(store: Store, text: str) -> tuple[Store, str]:
    """The store and the exec_id that `text` names; the store is this one where it is no address."""
    address = parse_address(text)
    store = store if address.store is None else open_store(address.store)
    return store, _exec_id(store, address.ref.partition(":")[0])


def look_up(store: Store, text: str) -> Execution | Checkpoint | Artifact:
    """What a REF or an address names. A bare word is of the last execution first: see `kitaru.refs`."""
    address = parse_address(text)
    store = store if address.store is None else open_store(address.store)
    name, colon, rest = address.ref.partition(":")
    if not text:
        raise InvalidNameError("an empty REF names nothing: write last, an exec_id, a step, or @3")
    if not colon and not _can_be_exec_id(name):
        parse_ref(name)  # what is no REF is that first
        return _inside(open_execution(store, _exec_id(store, "last")), name)
    if not colon:
        try:
            execution = open_execution(store, _exec_id(store, name))
        except (NotFoundError, InvalidNameError) as e:
            try:
                return _inside(open_execution(store, _exec_id(store, "last")), name)
            except (NotFoundError, InvalidNameError) as neither:
                raise type(e)(f"{e}; {neither}") from None
        if address.store is None and name not in {"last", "last-failed"} and execution.exec_id != name:
            try:  # a bare word is a step, or what was saved, of the last execution first
                return _inside(open_execution(store, _exec_id(store, "last")), name)
            except (NotFoundError, InvalidNameError):
                return execution
        return execution
    execution = open_execution(store, _exec_id(store, name))
    return _inside(execution, rest) if rest else execution


def _exec_id(store: Store, name: str) -> str:
    if name in {"last", "last-failed"}:
        return _last(store, failed=name == "last-failed")
    check_exec_id(name)
    if next(iter(store.list(journal_key(name))), None) is not None:
        return name
    found = list(beginning_with(store, name, 3))
    if not found:
        raise NotFoundError(_no_execution(store, name))
    if len(found) > 1:
        raise AmbiguousNameError(f"more than one execution begins with {name}: {', '.join(found)}, …")
    return found[0]


def _last(store: Store, *, failed: bool) -> str:
    for row in rows(store):
        if not failed or row.status in {s.value for s in FAILED}:
            return row.exec_id
        if row.status == "running" and open_execution(store, row.exec_id).status in FAILED:
            return row.exec_id
    what = "no execution failed" if failed else "there is no execution"
    raise NotFoundError(f"{what} in {store.url}")


def _can_be_exec_id(name: str) -> bool:
    try:
        check_exec_id(name)
    except InvalidNameError:
        return False
    return True


def _no_execution(store: Store, name: str) -> str:
    return f"there is no execution {name} in {store.url}: `kitaru runs` lists those that there are"


def beginning_with(store: Store, start: str, most: int) -> Iterator[str]:
    """Up to `most` exec_ids that begin with `start`: one request for each, however long their journals are."""
    prefix, after = f"executions/{start}", None
    for _ in range(most):
        entry = next(iter(store.list(prefix, after=after)), None)
        if entry is None:
            return
        exec_id = entry.key.split("/")[1]
        yield exec_id
        after = f"executions/{exec_id}/\U0010ffff"


def _inside(execution: Execution, text: str) -> Checkpoint | Artifact:
    """What a REF names in its execution: see `refs` for what comes first."""
    named = [s for s in execution.data.saved if s.name == text]
    if named:
        return execution.saved(named[-1])
    if text in {"result", ".output"} and (execution.data.result is not None or text not in execution.called):
        return Artifact(execution, "result", result_of(execution))
    ref = parse_ref(f"{execution.exec_id}:{text}")
    if ref.version is not None:
        return _version(execution, ref.path[0].name, ref.version)
    try:
        return _within(execution, ref)
    except NotFoundError:
        step, _, number = text.partition("#")
        if number.isdecimal() and any(s.name == step for s in execution.data.saved):
            return _version(execution, step, int(number))
        raise


def _version(execution: Execution, name: str, version: int) -> Artifact:
    saved = [s for s in execution.data.saved if s.name == name]
    for s in saved:
        if s.version == version:
            return execution.saved(s)
    there = f"{len(saved)} version{'' if len(saved) == 1 else 's'}" if saved else "nothing"
    raise NotFoundError(f"{execution.exec_id} has no {name}@{version}: it has {there} saved under that name")


def _within(execution: Execution, ref: Ref) -> Checkpoint | Artifact:
    """The checkpoint, output or input of `execution` that `ref` names."""
    pending = execution.data.pending
    data = pending if pending is not None and pending.path == ref.path else execution.data.find(ref)
    checkpoint = Checkpoint(execution, data)
    if ref.argument is not None:
        inputs = checkpoint.inputs
        if ref.argument not in inputs:
            raise NotFoundError(f"{data.label} has no input {ref.argument}; it has: {', '.join(inputs) or 'none'}")
        return inputs[ref.argument]
    if ref.output is not None:
        for (name, _), artifact in zip(data.outputs, checkpoint.artifacts, strict=True):
            if name == ref.output:
                return artifact
        names = ", ".join(name for name, _ in data.outputs)
        raise NotFoundError(f"{data.label} has no output {ref.output}; it has: {names or 'none'}")
    return checkpoint


def only_output(checkpoint: Checkpoint) -> Artifact:
    """The output of a step that has one."""
    artifacts = checkpoint.artifacts
    if not artifacts:
        raise NotFoundError(f"{checkpoint.label} is {checkpoint.status}, and has no output")
    if len(artifacts) > 1:
        names = [f"{checkpoint.label.removesuffix('#1')}.{name}" for name, _ in checkpoint.data.outputs]
        raise NotFoundError(f"{checkpoint.label} has {len(names)} outputs: say which of {', '.join(names)}")
    return artifacts[0]


def result_of(execution: Execution) -> Value:
    """What the flow returned, as it is recorded."""
    if execution.data.result is None:
        raise NotFoundError(f"{execution.exec_id} has no result: it is {execution.status.value}")
    return execution.data.result
