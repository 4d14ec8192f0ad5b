"""Recording searches, and reading them again."""

from __future__ import annotations
