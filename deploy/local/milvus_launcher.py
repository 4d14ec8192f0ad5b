"""Turns into a Milvus server: `PYTHON_OF_MILVUS milvus_launcher.py FOLDER PORT HEALTH_PORT ETCD_PORT ETCD_PEER_PORT`.

Run by the Python that the package `milvus` (2.3.5) is installed for. Its own command, `milvus-server`, stays in front
of the server as a second process, and a tether holds one process only: so this one *becomes* the server.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import NoReturn

# The embedded etcd listens on its usual ports whatever Milvus is told, so that a second server on a machine crashes.
ETCD = """\
name: default
data-dir: {folder}/data/etcd.data
listen-client-urls: http://127.0.0.1:{etcd_port}
advertise-client-urls: http://127.0.0.1:{etcd_port}
listen-peer-urls: http://127.0.0.1:{peer_port}
initial-advertise-peer-urls: http://127.0.0.1:{peer_port}
initial-cluster: default=http://127.0.0.1:{peer_port}
log-outputs: [{folder}/logs/etcd.log]
"""
PARTS = ("proxy", "rootCoord", "queryCoord", "queryNode", "dataCoord", "dataNode", "indexNode")


def main() -> None:
    from milvus import MilvusServer, MilvusServerConfig  # type: ignore[import-not-found]  # noqa: PLC0415

    folder = Path(sys.argv[1])
    port, health_port, etcd_port, peer_port = (int(argument) for argument in sys.argv[2:])
    # The package unpacks 500 MB of libraries into each data folder; once for all of them is enough.
    libraries = Path(sys.prefix) / "milvus-bin"
    libraries.mkdir(exist_ok=True)
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / "bin").exists():
        (folder / "bin").symlink_to(libraries)
    etcd = folder / "etcd.yaml"
    etcd.write_text(ETCD.format(folder=folder, etcd_port=etcd_port, peer_port=peer_port), encoding="utf-8")
    os.environ["ETCD_CONFIG_PATH"] = str(etcd)

    # Ports of one that was killed a moment ago can be taken again, which the package does not ask for.
    MilvusServerConfig.try_bind_port = _bind
    config = MilvusServerConfig(data_dir=str(folder), proxy_port=port, etcd_port=etcd_port)
    for part in PARTS:
        config.set(f"{part}.ip", "127.0.0.1")
    # Seconds until a start after a kill no longer waits for the one that was killed; 30 otherwise.
    config.set("common.session.ttl", 5)
    server = MilvusServer(config, wait_for_started=False)
    server.webservice_port = health_port
    subprocess.Popen = _become  # type: ignore[assignment, misc]
    server.start()


def _bind(_: object, port: int) -> socket.socket | None:
    listening = socket.socket()
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind(("127.0.0.1", port))
        listening.listen()
    except OSError:
        listening.close()
        return None
    return listening


def _become(command: list[str], *, env: dict[str, str], **_: object) -> NoReturn:
    os.execve(command[0], command, env)  # noqa: S606


if __name__ == "__main__":
    main()
