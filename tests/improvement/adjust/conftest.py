"""Property tests are judged by what they find: the first example loads torch, and a busy machine is no failure.

TIDELINE_TEST_EXAMPLES sets how many examples each of them tries.
"""

from __future__ import annotations

import os

from hypothesis import settings

settings.register_profile("unhurried", deadline=None, max_examples=int(os.environ.get("TIDELINE_TEST_EXAMPLES", "40")))
settings.load_profile("unhurried")
