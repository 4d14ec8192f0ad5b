"""Turns into a Milvus server: `PYTHON_OF_MILVUS milvus_launcher.py FOLDER PORT HEALTH_PORT`.

Run by the Python that the package `milvus` (2.3.5) is installed for. Its own command, `milvus-server`, stays in front
of the server as a second process, and a tether holds one process only: so this one *becomes* the server.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import NoReturn


def main() -> None:
    from milvus import MilvusServer, MilvusServerConfig  # type: ignore[import-not-found]  # noqa: PLC0415

    folder, port, health_port = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    # The package unpacks 500 MB of libraries into each data folder; once for all of them is enough.
    libraries = Path(sys.prefix) / "milvus-bin"
    libraries.mkdir(exist_ok=True)
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / "bin").exists():
        (folder / "bin").symlink_to(libraries)

    config = MilvusServerConfig(data_dir=str(folder), proxy_port=port)
    server = MilvusServer(config, wait_for_started=False)
    server.webservice_port = health_port
    subprocess.Popen = _become  # type: ignore[assignment, misc]
    server.start()


def _become(command: list[str], *, env: dict[str, str], **_: object) -> NoReturn:
    os.execve(command[0], command, env)  # noqa: S606


if __name__ == "__main__":
    main()
