"""The process that the kill campaign kills: it runs the flow by name, on the store and with the log it is given."""

from __future__ import annotations

import os
import sys
from typing import Any


def run(store: str, exec_id: str, log: str, turns: int) -> dict[str, Any]:
    import kitaru
    from kitaru import engine

    from . import audit

    engine._backoff = lambda tries: 0.0  # this process serves the campaign alone: nobody waits before a retry

    kitaru.connect(store)
    audit.sink["say"] = audit.to_file(log)
    return audit.audit.options(exec_id=exec_id).run(turns).get()


def child(store: str, exec_id: str, log: str, turns: int) -> None:
    """In a fork of the campaign: leaves by its exit code alone."""
    code = 1
    try:
        os.setpgid(0, 0)
        run(store, exec_id, log, turns)
        code = 0
    except BaseException as e:
        print(f"{exec_id}: {type(e).__name__}: {e}", file=sys.stderr, flush=True)
    finally:
        os._exit(code)
