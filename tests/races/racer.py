"""The flow that the processes of this room race for. `python racer.py begin|resume|named EXEC`

Each step writes its number and its process into the file `RACE_LOG`, outside of the store. In the step `RACE_DIE` the
process kills itself; in the step `RACE_HOLD` it waits until the file `RACE_GO` exists. A resume says that it is ready
by a file of its own beside `RACE_START`, and begins once that one exists.
"""

from __future__ import annotations

import os
import signal
import sys
import time

from kitaru import KitaruClient, KitaruError, checkpoint, flow


def wait_for(path: str) -> None:
    until = time.monotonic() + 300
    while not os.path.exists(path):
        if time.monotonic() > until:
            raise SystemExit(f"nobody made {path}")
        time.sleep(0.002)


@checkpoint
def step(i: int) -> list[int]:
    log = os.open(os.environ["RACE_LOG"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
    os.write(log, f"{i} {os.getpid()}\n".encode())
    os.close(log)
    if os.environ.get("RACE_DIE") == str(i):
        os.kill(os.getpid(), signal.SIGKILL)
    if os.environ.get("RACE_HOLD") == str(i):
        wait_for(os.environ["RACE_GO"])
    time.sleep(0.05)
    return [i, os.getpid()]


@flow
def race(n: int) -> list[list[int]]:
    return [step(i) for i in range(n)]


def main(word: str, exec_id: str) -> None:
    if word == "begin":
        race.options(exec_id=exec_id).run(6)
        return
    client = KitaruClient()
    if start := os.environ.get("RACE_START"):
        with open(f"{start}.{os.getpid()}", "w"):
            pass
        wait_for(start)
    if word == "resume":
        client.executions.resume(exec_id)
    else:
        race.options(exec_id=exec_id).run(6)


if __name__ == "__main__":
    try:
        main(*sys.argv[1:])
    except KitaruError as error:
        sys.stderr.write(f"{type(error).__name__}: {error}\n")
        sys.exit(error.exit_code)
