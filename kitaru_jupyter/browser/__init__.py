"""The browser: a widget in which executions are looked at, edited and run again by hand.

`sight` says what is shown, `desk` reads it, `forms` are values as text, `lines` the code that does what a button does,
`deeds` what the buttons do, `work` where it is done, `still` the picture that stays without a kernel, and
`widget` puts them together. ``browser.js`` and ``browser.css`` are its front end.
"""

from __future__ import annotations

from .widget import Browser

__all__ = ["Browser"]
