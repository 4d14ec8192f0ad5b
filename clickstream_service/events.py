"""Recording what users did with results, and reading it again."""

from __future__ import annotations
