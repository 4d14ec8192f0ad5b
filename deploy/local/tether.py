"""Runs a command that dies with the process that started it: `python tether.py PARENT_PID COMMAND ...`.

The kernel kills a tethered process when the *thread* that started it ends (PR_SET_PDEATHSIG of prctl(2)),
so a stack that is itself killed with SIGKILL leaves nothing running. The setting survives the exec below. A
file of its own, and not a function given to `subprocess` as `preexec_fn`: Python code between fork and exec
can deadlock when there are threads.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1


def main() -> None:
    parent, command = int(sys.argv[1]), sys.argv[2:]
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG) failed")
    if os.getppid() != parent:  # it died before the tether was tied
        sys.exit(1)
    os.execvp(command[0], command)  # noqa: S606 - there is no shell to want


if __name__ == "__main__":
    main()
