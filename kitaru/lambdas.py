"""AWS Lambda: a function that makes one pass when a bucket, or a clock, says that something may be ready.

Events name keys of a store: only those by which an execution may have become able to go on lead to a pass. An event is
a hint like those of the store itself: late, twice or never, it does no harm, as long as a schedule comes by as well.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import unquote_plus

from .errors import UsageError
from .location import connect
from .notices import say
from .passes import resume_ready

__all__ = ["lambda_handler"]

_READY = re.compile(r"(?:(?P<prefix>.+)/)?(?:ready/[^/]+|executions/[^/]+/inbox)/[^/]+")


def lambda_handler(event: Mapping[str, Any], context: Any) -> dict[str, Any]:
    """Make one pass over a store, as `kitaru resume --ready` does, and end before the function's time is over.

    The store is what ``KITARU_STORE`` names; where that is not set, the one in which the keys of an S3 event lie.
    ``KITARU_CODE`` says where the flows' code is: ``module``, or ``module:flow``. No step begins that is not likely to
    have ended a little before the function's time is over: an execution is let go at its next step, and another pass
    takes it up.

    Parameters
    ----------
    event
        Of a schedule; or of a bucket, from S3 itself or by EventBridge. One of a bucket in which nothing can have
        become ready leads to no pass.
    context
        As Lambda gives it: `get_remaining_time_in_millis` is asked.

    Returns
    -------
    dict
        ``{"passes": […]}``: for each store what was run, and how that stands now, as plain data.

    Raises
    ------
    UsageError
        No store is named.
    StoreError
        The store cannot be used: Lambda calls the function again.
    """
    left = context.get_remaining_time_in_millis() / 1000
    until = time.monotonic() + left - min(10.0, left / 5)  # what is let go is recorded then
    passes = []
    for store in _stores(event):
        deadline = max(until - time.monotonic(), 0.001)
        report = resume_ready(connect(store), code=os.environ.get("KITARU_CODE") or None, deadline=deadline, note=say)
        passes.append({"store": store, **report.to_json()})
    return {"passes": passes}


def _stores(event: Mapping[str, Any]) -> list[str]:
    """The stores over which a pass is to be made."""
    named, keys = os.environ.get("KITARU_STORE"), list(_keys(event))
    if not keys and not _is_of_a_bucket(event):
        if not named:
            raise UsageError("set KITARU_STORE to the store's address: this event names none")
        return [named]
    found = {(bucket, m["prefix"]): None for bucket, key in keys if (m := _READY.fullmatch(key))}
    stores = [f"s3://{bucket}/{prefix}" if prefix else f"s3://{bucket}" for bucket, prefix in found]
    return [named] if named and stores else stores


def _is_of_a_bucket(event: Mapping[str, Any]) -> bool:
    return "Records" in event or event.get("source") == "aws.s3"


def _keys(event: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """The buckets and keys that an event tells of."""
    for record in event.get("Records", ()):
        s3 = record.get("s3")
        if s3 is not None:
            yield s3["bucket"]["name"], unquote_plus(s3["object"]["key"])
    if event.get("source") == "aws.s3":  # by EventBridge, whose keys are as they are
        yield event["detail"]["bucket"]["name"], event["detail"]["object"]["key"]
