"""Settings of the clickstream service: read once, from the environment, and passed down."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path  # noqa: TC003 - pydantic reads it
from typing import Annotated, Literal

from pydantic import Field, MongoDsn
from pydantic_settings import SettingsConfigDict

from clickstream_service.domain.noise import NoiseLimits
from tideline.rpc.channels import Access
from tideline.rpc.settings import Positive, PositiveTime, SecuritySettings, Time


class Settings(SecuritySettings):
    """Each is the environment variable `CLICKSTREAM_` + its name in capitals; times in seconds or as ISO 8601."""

    model_config = SettingsConfigDict(env_prefix="CLICKSTREAM_", frozen=True)

    mongo_uri: MongoDsn = MongoDsn("mongodb://localhost:27017/?replicaSet=rs0")
    """A replica set or a sharded cluster; transactions need one."""
    mongo_database: Annotated[str, Field(min_length=1, max_length=63)] = "tideline_clickstream"
    """The database; created when it is not there."""
    mongo_patience: PositiveTime = timedelta(seconds=5)
    """How long a call waits for MongoDB to have a primary before it fails with UNAVAILABLE."""
    migrate: Literal["run", "wait"] = "run"
    """At the start, "run" what a release changes about the data unless another replica does, or "wait" until
    `tideline migrate clickstream` was called."""
    migration_lock: PositiveTime = timedelta(seconds=30)
    """How long after a replica died that was migrating another one goes on."""

    listen: str = "127.0.0.1:50051"
    """Address and port to serve on; port 0 takes a free one, which the log names."""
    stop_grace: Time = timedelta(seconds=10)
    """How long calls that are under way may go on after SIGTERM."""
    processes: Positive = 1
    """How many processes share the port, each on a core of its own.

    Metrics and health of the second are served on the port after the one that is set, and so on.
    """
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

    user_keys_file: Path | None = None
    """Keys, `ID:BASE64` a line, the newest last; with them only pseudonyms are stored: deploy/OPERATIONS.md."""

    max_age: PositiveTime = timedelta(hours=12)
    """Sessions and events from longer ago are refused."""
    max_ahead: PositiveTime = timedelta(minutes=5)
    """Sessions and events from further in the future are refused."""

    strengths_max_age: timedelta = timedelta(seconds=10)
    """How long after a change of the strengths by another instance of the service this one may go by the old ones."""

    snapshot_settle: Time = timedelta(seconds=1)
    """How long a training snapshot waits for writes that are under way; more than the clocks of instances differ."""

    feedback_lease: PositiveTime = timedelta(minutes=5)
    """How long a worker holds a user's feedback without renewing, unless it asks for another time."""
    feedback_max_failures: Positive = 5
    """A session that failed this often is parked."""
    feedback_max_attempts: Positive = 10
    """A user whose lease expired this often in a row has what waits parked: it seems to end its workers."""
    feedback_backoff: Time = timedelta(minutes=1)
    """How long a user with a failed session waits to be leased again; twice as long after each further failure."""
    feedback_max_backoff: Time = timedelta(hours=1)
    """The longest such wait."""
    submit_after_quiet: PositiveTime | None = None
    """Sessions of users are submitted by themselves this long after their last event; not at all when unset.

    Applies to sessions that are recorded while it is set.
    """
    submit_every: PositiveTime = timedelta(seconds=10)
    """How often to look for sessions that are quiet by now."""

    signal_segments: tuple[Annotated[str, Field(min_length=1, max_length=256)], ...] = ("surface", "device")
    """Fields of `search_meta` by whose values signals are counted, each once more; a change counts everything again."""
    signal_delay: PositiveTime = timedelta(seconds=1)
    """For how long changes are gathered, at most, before they are brought into the signals together; up to ten times as
    long while more comes in than is written at once."""
    role_lease: PositiveTime = timedelta(seconds=10)
    """How long after one instance of the service has died another one goes on with its work in the background."""
    monitor_every: PositiveTime = timedelta(minutes=1)
    """How often monitors are looked at."""
    monitor_webhook_hosts: tuple[str, ...] = ()
    """Where the webhooks of monitors may be, each a host or `host:port` as in their URLs; nowhere when empty."""
    monitor_webhook_timeout: PositiveTime = timedelta(seconds=10)
    """How long to wait for a webhook."""
    monitor_webhook_attempts: Positive = 12
    """A change of a monitor that a webhook did not take so often is given up."""
    monitor_webhook_backoff: PositiveTime = timedelta(seconds=10)
    """How long to wait after a first failure; twice as long after each further one, up to an hour."""

    noise: NoiseLimits = NoiseLimits()
    """From where on events are noise to `tideline clean`, as JSON; what is left out keeps its default."""

    retention: PositiveTime | None = None
    """Sessions and events are deleted when they are so old, and users learned anew without them; kept when unset.

    That goes for what is recorded as historical, too.
    """
    retention_every: PositiveTime = timedelta(hours=1)
    """How often to look for what is too old."""

    improvement_address: str = ""
    """Where the improvement service is, which forgets the users that are erased; empty when there is none."""
    improvement_ca_file: str = ""
    """CA certificates to know it by, or `system`; the connection is not encrypted when nothing of these is set."""
    improvement_cert_file: Path | None = None
    """The certificate to show it, where it asks for one."""
    improvement_key_file: Path | None = None
    """The key of that certificate."""
    improvement_token_file: Path | None = None
    """An API key or token for it, with the role `internal`; read anew for each call."""
    improvement_patience: PositiveTime = timedelta(seconds=30)
    """How long it may take to forget a user."""
    erasure_patience: Time = timedelta(seconds=5)
    """How long `EraseUser` waits for the end, at most; the erasure goes on after that all the same."""
    erasure_grace: Time = timedelta(seconds=1)
    """How long an erasure takes at least: writes that began before it have to be over by then."""
    erasure_every: PositiveTime = timedelta(seconds=0.5)
    """How often to look for erasures to go on with."""

    sessions_per_write: Positive = 500
    """How many sessions are written in one transaction, at most."""
    events_per_write: Positive = 2_000
    """How many events are written at once, at most."""
    bytes_per_write: Positive = 8 * 1024 * 1024
    """How large one write may be, measured as messages; a larger item is written alone."""
    waiting_sessions: Positive = 10_000
    """Beyond so many sessions waiting to be written, calls fail with RESOURCE_EXHAUSTED."""
    waiting_events: Positive = 100_000
    """Beyond so many events waiting to be written, calls fail with RESOURCE_EXHAUSTED and streams are slowed down."""
    waiting_bytes: Positive = 64 * 1024 * 1024
    """The same for the size of what is waiting; sessions and events each have their own."""

    def improvement_access(self) -> Access:
        """What it takes to reach the improvement service."""
        return Access(
            self.improvement_ca_file,
            self.improvement_cert_file,
            self.improvement_key_file,
            self.improvement_token_file,
        )
