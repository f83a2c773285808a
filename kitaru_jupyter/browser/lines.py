"""The line of code that does what a button does: it can be copied into a cell, and is what a notebook would hold."""

from __future__ import annotations

from ..commands import quoted as _word

__all__ = ["cancel", "checkout", "debug", "edit", "going_on", "opening", "plan", "show", "step", "undo"]


def cancel(exec_id: str) -> str:
    return f"%kitaru cancel {_word(exec_id)}"


def opening(exec_id: str) -> str:
    return f"%kitaru open {_word(exec_id)}"


def show(exec_id: str, ref: str) -> str:
    return f"%kitaru show {_word(f'{exec_id}:{ref}' if ref else exec_id)}"


def checkout(exec_id: str, ref: str, *, before: bool) -> str:
    return f"%kitaru checkout {_word(f'{exec_id}:{ref}')}{' --before' if before else ''}"


def edit(exec_id: str, ref: str, *, mode: str, why: str = "", text: str | None = None) -> str:
    """The cell; without `text` its first line alone."""
    reason = f" --why {_word(why)}" if why else ""
    option = f" --{mode}" if mode in {"json", "text"} else ""
    head = f"%%kitaru_edit {_word(f'{exec_id}:{ref}')}{option}{reason}"
    return head if text is None else f"{head}\n{text}"


def debug(exec_id: str, ref: str) -> str:
    return f"%kitaru debug {_word(f'{exec_id}:{ref}')}"


def plan(exec_id: str) -> str:
    return f"%kitaru plan {_word(exec_id)}"


def going_on(exec_id: str, *, current: bool, until: str = "") -> str:
    """Resume; where it is not the notebook's current execution it is opened first."""
    line = f"%kitaru resume{f' --until {_word(until)}' if until else ''}"
    return line if current else f"{opening(exec_id)}\n{line}"


def step(exec_id: str, *, current: bool) -> str:
    """Go on by one step, as `going_on`."""
    line = "%kitaru next"
    return line if current else f"{opening(exec_id)}\n{line}"


def undo() -> str:
    return "%kitaru undo"
