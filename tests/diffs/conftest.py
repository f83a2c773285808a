"""A notebook's shell, as the tests of the magics have it."""

from ..jupyter.conftest import bare_shell, cells

__all__ = ["bare_shell", "cells"]
