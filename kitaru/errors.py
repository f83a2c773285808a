"""What can go wrong, as one tree, grouped by what a handler would do.

::

    KitaruError
    ├── UsageError                   correct the call                                    exit code 2
    │   ├── InvalidNameError             an exec_id, a step's name or a REF that cannot be one
    │   ├── NotFoundError                no such execution, checkpoint, artifact
    │   ├── AmbiguousNameError           more than one execution begins like this
    │   ├── InputsDifferError            the named execution was begun with other inputs
    │   ├── ExecutionEndedError          cancelled: it does not run again
    │   ├── WaitClosedError              the wait is not open: it was answered, or it expired
    │   └── CodeNotFoundError            the code of a recorded flow is not to be found here
    ├── RefusedError                 somebody else runs it: wait, or look                exit code 4
    │   ├── ExecutionOwnedError          an owner looks alive
    │   └── ExecutionFencedError         another process took over while this one ran
    ├── StoreError                   the store cannot be used: mend it, then resume      exit code 5
    │   ├── StoreUnavailableError        no answer, or "slow down": may work later
    │   ├── StorePermissionError         credentials are missing, expired, or do not suffice
    │   ├── StoreFullError               no space left
    │   ├── StoreUnsupportedError        it does not honour conditional writes
    │   ├── StoreFormatError             written by a newer Kitaru
    │   ├── KeyMissingError              no object under this key
    │   └── CorruptionError              an object is not what was written
    ├── StepError                    a step could not do its work                        exit code 1
    │   ├── StepTimeoutError             an attempt took longer than its `timeout=`
    │   ├── StepInDoubtError             the process died in its body, and nobody knows how far it came
    │   ├── ChildFailedError             an execution that it waited for failed
    │   ├── KitaruWaitExpired            nobody answered in time
    │   ├── KitaruWaitAborted            somebody said that there will be no answer
    │   ├── UnrecordableValueError       a value that no codec takes
    │   └── RecordedFailureError         a recorded failure whose type cannot be had again
    ├── KitaruDivergenceError        the code asks for other inputs than were recorded   exit code 1
    ├── UntrustedValueError          a pickle from a store that is not trusted           exit code 1
    └── ExecutionCancelledError      it was cancelled                                    exit code 1

`ExecutionSuspended` stands beside the tree: it is a `SystemExit` of code 3, so that a script that waits for
somebody ends with 3, and `except Exception` does not swallow it.
"""

from __future__ import annotations

from typing import Any, ClassVar

__all__ = [
    "AmbiguousNameError",
    "ChildFailedError",
    "CodeNotFoundError",
    "CorruptionError",
    "ExecutionCancelledError",
    "ExecutionEndedError",
    "ExecutionFencedError",
    "ExecutionOwnedError",
    "ExecutionSuspended",
    "InputsDifferError",
    "InvalidNameError",
    "KeyMissingError",
    "KitaruDivergenceError",
    "KitaruError",
    "KitaruWaitAborted",
    "KitaruWaitExpired",
    "KitaruWarning",
    "NotFoundError",
    "RecordedFailureError",
    "RefusedError",
    "StepError",
    "StepInDoubtError",
    "StepTimeoutError",
    "StoreError",
    "StoreFormatError",
    "StoreFullError",
    "StorePermissionError",
    "StoreUnavailableError",
    "StoreUnsupportedError",
    "UnrecordableValueError",
    "UntrustedValueError",
    "UsageError",
    "WaitClosedError",
]


class KitaruError(Exception):
    """Everything that Kitaru itself raises. `code` is stable; `exit_code` is what the command line ends with."""

    code: ClassVar[str] = "kitaru"
    exit_code: ClassVar[int] = 1


class UsageError(KitaruError):
    """The call cannot be carried out as it stands: correct it."""

    code = "usage"
    exit_code = 2


class InvalidNameError(UsageError, ValueError):
    """An exec_id, a step's name or a REF that cannot be one."""

    code = "invalid-name"


class NotFoundError(UsageError, LookupError):
    """No such execution, checkpoint or artifact in this store."""

    code = "not-found"


class AmbiguousNameError(UsageError, LookupError):
    """More than one execution begins like this."""

    code = "ambiguous-name"


class InputsDifferError(UsageError, ValueError):
    """The named execution was begun with other inputs."""

    code = "inputs-differ"


class ExecutionEndedError(UsageError):
    """A cancelled execution does not run again."""

    code = "ended"


class WaitClosedError(UsageError):
    """A wait that is not open: somebody else answered first, it expired, or its execution has ended."""

    code = "wait-closed"


class CodeNotFoundError(UsageError, ImportError):
    """The code of a recorded flow, or of a recorded type, is not to be found in this process."""

    code = "code-not-found"


class RefusedError(KitaruError):
    """Somebody else runs this execution."""

    code = "refused"
    exit_code = 4


class ExecutionOwnedError(RefusedError):
    """An owner looks alive: the message says who, where, since when, and what to do."""

    code = "owned"


class ExecutionFencedError(RefusedError):
    """Another process took this execution over while this one was away. Nothing more is recorded here."""

    code = "fenced"


class StoreError(KitaruError):
    """The store cannot be used."""

    code = "store"
    exit_code = 5


class StoreUnavailableError(StoreError, ConnectionError):
    """No answer, or "slow down". A write may have been carried out, or not, or will be later."""

    code = "store-unavailable"


class StorePermissionError(StoreError, PermissionError):
    """Credentials are missing or expired, or do not suffice."""

    code = "store-permission"


class StoreFullError(StoreError, OSError):
    """No space is left on the device, or a quota is used up."""

    code = "store-full"


class StoreUnsupportedError(StoreError):
    """The store does not honour conditional writes: two processes could both believe that they own a run."""

    code = "store-unsupported"


class StoreFormatError(StoreError):
    """The location was written by a newer Kitaru."""

    code = "store-format"


class KeyMissingError(StoreError, LookupError):
    """No object under this key."""

    code = "key-missing"


class CorruptionError(StoreError):
    """An object is not what was written: truncated, flipped, swapped. It is named, and never used as a value."""

    code = "corruption"


class StepError(KitaruError):
    """A step could not do its work."""

    code = "step"


class StepTimeoutError(StepError, TimeoutError):
    """An attempt took longer than its `timeout=`."""

    code = "step-timeout"


class StepInDoubtError(StepError):
    """The process died while the step ran, and the step is not to run again by itself."""

    code = "step-in-doubt"


class ChildFailedError(StepError):
    """An execution that was spawned failed. Its own exception is the cause; `exec_id` names it."""

    code = "child-failed"

    def __init__(self, message: str, exec_id: str = "") -> None:
        super().__init__(message)
        self.exec_id = exec_id


class KitaruWaitExpired(StepError, TimeoutError):
    """Nobody answered in time, and the wait has no default."""

    code = "wait-expired"


class KitaruWaitAborted(StepError):
    """Somebody closed the wait without an answer; the message says who, and why."""

    code = "wait-aborted"


class UnrecordableValueError(StepError, TypeError):
    """A value that no codec takes. The message names its place and type, and what to do."""

    code = "unrecordable-value"


class RecordedFailureError(StepError):
    """A recorded failure whose own type cannot be had again safely here. The message says which, and why."""

    code = "recorded-failure"


class ModelRequestError(StepError):
    """A request to a model was refused, or its connection broke, as `kitaru.record_http` has recorded it.

    Attributes
    ----------
    status : int or None
        The HTTP status; None where the connection broke.
    headers : dict of str to str
        Those of the answer that are recorded.
    body : Any
        The answer.
    kind, detail : str
        The name and the message of the transport's own error, where the connection broke.
    """

    code = "model-request"

    def __init__(
        self,
        message: str,
        status: int | None = None,
        headers: dict[str, str] | None = None,
        body: Any = None,
        *,
        kind: str = "",
        detail: str = "",
    ) -> None:
        super().__init__(message)
        self.status, self.headers, self.body, self.kind, self.detail = status, headers or {}, body, kind, detail


class KitaruDivergenceError(KitaruError):
    """A call has other inputs than the record at its place, and `on_drift="error"` was asked for."""

    code = "divergence"


class UntrustedValueError(KitaruError):
    """A pickled value from a store that this user has not marked as trusted: loading it would run its code."""

    code = "untrusted-value"


class ExecutionCancelledError(KitaruError):
    """The execution was cancelled."""

    code = "cancelled"


class ExecutionSuspended(SystemExit):
    """The execution waits, or is paused: nothing is kept running. A `SystemExit` of code 3."""

    def __init__(self, message: str, exec_id: str = "") -> None:
        super().__init__(3)
        self.message = message
        self.exec_id = exec_id

    def __str__(self) -> str:
        return self.message


class KitaruWarning(UserWarning):
    """Something that a person should know, and that does not keep the execution from going on."""
