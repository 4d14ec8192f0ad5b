"""Settings of the improvement service: read once, from the environment, and passed down."""

from __future__ import annotations

import os
import socket
from datetime import timedelta
from pathlib import Path  # noqa: TC003 - pydantic reads it
from typing import Annotated, Literal

from pydantic import AliasChoices, Field, MongoDsn, SecretStr
from pydantic_settings import SettingsConfigDict

from tideline.rpc.channels import Access
from tideline.rpc.settings import Positive, PositiveTime, SecuritySettings, Time


def _worker() -> str:
    return f"{socket.gethostname()}-{os.getpid()}"


class Settings(SecuritySettings):
    """Each is the environment variable `IMPROVEMENT_` + its name in capitals; times in seconds or as ISO 8601.

    The parameters of `torch_based` are also known without the prefix: ADJUSTMENT_RATE, NUM_ITERATIONS and
    SOFTMIN_TEMPERATURE.
    """

    model_config = SettingsConfigDict(env_prefix="IMPROVEMENT_", frozen=True, populate_by_name=True)

    mongo_uri: MongoDsn = MongoDsn("mongodb://localhost:27017/?replicaSet=rs0")
    """Where collections, versions and runs are kept."""
    mongo_database: Annotated[str, Field(min_length=1, max_length=63)] = "tideline_improvement"
    """The database; created when it is not there."""
    mongo_patience: PositiveTime = timedelta(seconds=5)
    """How long a call waits for MongoDB to have a primary before it fails with UNAVAILABLE."""
    migrate: Literal["run", "wait"] = "run"
    """At the start, "run" what a release changes about the data unless another replica does, or "wait" until
    `tideline migrate improvement` was called."""
    migration_lock: PositiveTime = timedelta(seconds=30)
    """How long after a replica died that was migrating another one goes on."""
    milvus_uri: str = "http://localhost:19530"
    """A Milvus server; a path that ends in `.db` is Milvus Lite, which one process can use at a time."""
    milvus_token: SecretStr = SecretStr("")
    """`user:password` or an API key of the Milvus server."""
    milvus_patience: PositiveTime = timedelta(seconds=30)
    """How long a call waits for Milvus."""
    milvus_index_type: str = ""
    """The index of vectors as Milvus calls it; HNSW on a server and the exact FLAT on Milvus Lite when empty."""
    user_keys_file: Path | None = None
    """Keys, `ID:BASE64` a line, the newest last; with them only pseudonyms are stored: deploy/OPERATIONS.md.

    The clickstream service has to have the same.
    """
    clickstream_address: str = "127.0.0.1:50051"
    """Where the clickstream service listens."""
    clickstream_ca_file: str = ""
    """CA certificates to know it by, or `system`; the connection is not encrypted when nothing of these is set."""
    clickstream_cert_file: Path | None = None
    """The certificate to show it, where it asks for one."""
    clickstream_key_file: Path | None = None
    """The key of that certificate."""
    clickstream_token_file: Path | None = None
    """An API key or token for it, with the role `internal`; read anew for each call."""
    clickstream_patience: PositiveTime = timedelta(seconds=10)
    """How long a call waits for the clickstream service."""

    listen: str = "127.0.0.1:50052"
    """Address and port to serve on; port 0 takes a free one, which the log names."""
    stop_grace: Time = timedelta(seconds=10)
    """How long calls that are under way may go on after SIGTERM."""
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    """What is logged, at least."""
    log_personal: bool = False
    """Whether logs may carry ids of users, texts of queries, and texts of errors, which quote them: to find a fault."""
    metrics_listen: str = ""
    """Address and port to serve Prometheus metrics on, without encryption; not at all when empty."""
    health_listen: str = ""
    """Address and port for health alone, without encryption: for probes that have no certificate, such as those of
    Kubernetes. Only `listen` answers when empty."""
    health_every: PositiveTime = timedelta(seconds=2)
    """How often to ask the databases whether they answer."""
    health_patience: PositiveTime = timedelta(seconds=10)
    """For how long one may not answer until the service says that it is not ready."""

    worker: Annotated[str, Field(min_length=1, max_length=256)] = Field(default_factory=_worker)
    """What this process calls itself when it leases feedback; no other living process may have the name."""
    seconds_interval: Positive = 1800
    """Seconds between two scheduled runs."""
    feedback_lease: Annotated[PositiveTime, Field(le=timedelta(hours=1))] = timedelta(minutes=5)
    """How long users are held without renewing, which happens three times as often."""
    chunk_users: Positive = 200
    """How many users are learned from at once, at most; a few such chunks are in memory."""
    chunk_sessions: Positive = 2_000
    """How many sessions are learned from at once; a user with more is learned from alone."""
    chunk_results: Positive = 50_000
    """How many results these sessions may have shown."""
    chunk_vectors: Positive = 20_000
    """How many vectors are moved at once."""
    events_per_session: Annotated[Positive, Field(le=10_000)] = 10_000
    """How many events of a session are looked at, the first ones."""

    default_collection: str = ""
    """The collection of sessions that name none."""
    embedder: str = ""
    """What embeds queries that come as text, by its entry point in `tideline.embedders`; nothing when empty."""
    device: str | None = None
    """Where torch computes ("cpu", "cuda:1"); CUDA when there is one, else the CPU, when unset."""
    adjustment_rate: float | None = Field(
        default=None, validation_alias=AliasChoices("ADJUSTMENT_RATE", "IMPROVEMENT_ADJUSTMENT_RATE")
    )
    """The rate of `torch_based` in collections that do not name theirs; the adjuster's own default when unset."""
    num_iterations: float | None = Field(
        default=None, validation_alias=AliasChoices("NUM_ITERATIONS", "IMPROVEMENT_NUM_ITERATIONS")
    )
    """The same for its number of steps."""
    softmin_temperature: float | None = Field(
        default=None, validation_alias=AliasChoices("SOFTMIN_TEMPERATURE", "IMPROVEMENT_SOFTMIN_TEMPERATURE")
    )
    """The same for its temperature."""

    session_filter: str = "default"
    """What decides which sessions count, by its entry point in `tideline.session_filters`."""
    min_session_duration: Time = timedelta(0)
    """The default filter leaves out sessions whose last event came sooner after the search."""
    max_clicks: Positive | None = None
    """The default filter leaves out sessions that speak for more objects: what was meant is ambiguous."""
    prefer_below_top: Annotated[int, Field(ge=0)] = 0
    """The default filter lets sessions that speak for none below so many top results count half: the first results are
    clicked for being the first. 3 is a good number; at 0 all sessions count the same."""

    overlay_cache_bytes: Positive = 256 * 1024 * 1024
    """How much of users' copies is kept in memory for searches."""

    def adjuster_defaults(self) -> dict[str, dict[str, float]]:
        """Return the parameters of adjusters, by their name, that are set for collections that do not name theirs."""
        given = {
            "adjustment_rate": self.adjustment_rate,
            "num_iterations": self.num_iterations,
            "softmin_temperature": self.softmin_temperature,
        }
        return {"torch_based": {name: value for name, value in given.items() if value is not None}}

    def clickstream_access(self) -> Access:
        """What it takes to reach the clickstream service."""
        return Access(
            self.clickstream_ca_file,
            self.clickstream_cert_file,
            self.clickstream_key_file,
            self.clickstream_token_file,
        )
