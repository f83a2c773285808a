"""Makes `kinds` importable by its name, here and in child processes: recorded values name their classes."""

from __future__ import annotations

import sys
from pathlib import Path

if (here := str(Path(__file__).parent)) not in sys.path:
    sys.path.insert(0, here)
