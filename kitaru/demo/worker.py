"""The process that is killed: it runs the audit, says when a certain step has begun, and never ends that step.

``python -m kitaru.demo.worker EXEC_ID LIMIT STEP [MODEL]`` with the store in ``KITARU_STORE``. The step's body is held
at its beginning, so that there is no doubt which step was in flight when the SIGKILL came. With ``approve`` in the
place of STEP it is a plain script that asks for the result, and ends with 3 where the flow waits.
"""

from __future__ import annotations

import functools
import sys
import threading
from typing import Any

from ..steps import Step
from .audit import STEPS, audit
from .rules import MODEL

__all__ = ["hold"]


def hold(step: Step[..., Any], line: str) -> None:
    """From now on the body of `step` prints `line` when it begins, and goes no further."""

    @functools.wraps(step.function)
    def held(*args: Any, **kwargs: Any) -> Any:
        del args, kwargs
        sys.stdout.write(f"{line}\n")
        sys.stdout.flush()
        threading.Event().wait()

    step.function = held


if __name__ == "__main__":
    exec_id, limit = sys.argv[1], int(sys.argv[2])
    model = sys.argv[4] if len(sys.argv) > 4 else MODEL
    if sys.argv[3] == "approve":
        audit.options(exec_id=exec_id).run(limit, approve=True, model=model).get()
        sys.exit()
    number = int(sys.argv[3])
    hold(STEPS[number - 1], f"in step {number}")
    audit.options(exec_id=exec_id).run(limit, model=model)
