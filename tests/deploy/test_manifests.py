"""What is deployed is what the services are: names and values of settings, ports, probes; and it is locked down."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

import kubernetes_validate  # type: ignore[import-untyped]
import pytest

from tests.deploy.manifests import OVERLAYS, SETTINGS, Manifests, manifests
from tideline import cli
from tideline.rpc import health

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pydantic_settings import BaseSettings

FOREIGN = "monitoring.coreos.com/"
"""Kinds that a cluster has only when it is taught: nobody here knows their schema."""


@pytest.fixture(scope="module", params=OVERLAYS)
def deployed(request: pytest.FixtureRequest) -> Manifests:
    return manifests(request.param)


def test_manifests_are_what_kubernetes_takes(deployed: Manifests) -> None:
    for each in deployed.objects:
        if not each["apiVersion"].startswith(FOREIGN):
            kubernetes_validate.validate(each, kubernetes_validate.latest_version(), strict=True)


def test_every_variable_is_a_setting_with_a_value_that_it_takes(
    deployed: Manifests, monkeypatch: pytest.MonkeyPatch
) -> None:
    for pod in deployed.pods().values():
        environment = deployed.environment(pod)
        assert unknown(environment) == []
        command, service, *_ = pod["containers"][0]["args"]
        settings = settings_of(service, environment, monkeypatch)
        if command == "serve":
            assert_ports_and_probes_are_those_of(settings, pod, deployed.one("Service", service))


def test_files_that_settings_name_are_mounted(deployed: Manifests) -> None:
    for pod in serving(deployed):
        named = {value for name, value in deployed.environment(pod).items() if name.endswith("_FILE")}
        assert named <= deployed.files(pod)


def test_only_the_overlay_for_trying_it_out_is_insecure() -> None:
    for overlay in ("overlays/dev", "overlays/production", "overlays/gpu"):
        deployed = manifests(overlay)
        for pod in serving(deployed):
            protected = any(name.endswith("_TLS_CERT_FILE") for name in deployed.environment(pod))
            insecure = "--insecure" in pod["containers"][0]["args"]
            assert (insecure, protected) == ((True, False) if overlay == "overlays/dev" else (False, True))


def test_pods_may_do_nothing_but_their_work(deployed: Manifests) -> None:
    for pod in deployed.pods().values():
        assert pod["automountServiceAccountToken"] is False
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        for container in pod["containers"]:
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }
            assert {"cpu", "memory"} <= set(container["resources"]["requests"])
            assert "memory" in container["resources"]["limits"]


def test_every_pod_has_a_network_policy(deployed: Manifests) -> None:
    chosen = {
        policy["spec"]["podSelector"]["matchLabels"]["app.kubernetes.io/name"]
        for policy in deployed.all("NetworkPolicy")
    }
    makers = [*deployed.all("Deployment"), *deployed.all("Job")]
    labels = {maker["spec"]["template"]["metadata"]["labels"]["app.kubernetes.io/name"] for maker in makers}
    assert labels <= chosen


def test_pods_run_commands_that_there_are(deployed: Manifests) -> None:
    for pod in deployed.pods().values():
        with pytest.raises(SystemExit) as ended:
            cli.main([*pod["containers"][0]["args"], "--help"])
        assert ended.value.code == 0


def test_the_autoscaler_of_workers_asks_for_a_metric_that_there_is() -> None:
    from clickstream_service import metrics  # noqa: PLC0415

    scaler = manifests("overlays/gpu").one("HorizontalPodAutoscaler", "improvement")
    (metric,) = scaler["spec"]["metrics"]
    assert metric["external"]["metric"]["name"] == metrics.PENDING_USERS


def test_prometheus_finds_the_port_for_metrics() -> None:
    deployed = manifests("overlays/production")
    monitor = deployed.one("ServiceMonitor", "tideline")["spec"]
    (chosen,) = monitor["selector"]["matchExpressions"]
    for service in SETTINGS:
        described = deployed.one("Service", service)
        assert described["metadata"]["labels"][chosen["key"]] in chosen["values"]
        assert {each["port"] for each in monitor["endpoints"]} <= {port["name"] for port in described["spec"]["ports"]}


def unknown(environment: Mapping[str, str]) -> list[str]:
    """The variables that look like settings and are none."""
    return [
        name
        for name in environment
        for service, settings in SETTINGS.items()
        if name.startswith(prefix := f"{service.upper()}_")
        and name.removeprefix(prefix).lower() not in settings.model_fields
    ]


def serving(deployed: Manifests) -> Sequence[Mapping[str, Any]]:
    return [pod for pod in deployed.pods().values() if pod["containers"][0]["args"][0] == "serve"]


def settings_of(service: str, environment: Mapping[str, str], monkeypatch: pytest.MonkeyPatch) -> Any:
    """The settings as the service would read them."""
    with monkeypatch.context() as patched:
        for name, value in environment.items():
            patched.setenv(name, value)
        return SETTINGS[service]()


def assert_ports_and_probes_are_those_of(
    settings: BaseSettings, pod: Mapping[str, Any], service: Mapping[str, Any]
) -> None:
    told: Any = settings
    (container,) = pod["containers"]
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    served = {"grpc": told.listen, "health": told.health_listen, "metrics": told.metrics_listen}
    assert ports == {name: int(address.rpartition(":")[2]) for name, address in served.items()}
    for port in service["spec"]["ports"]:
        assert port["port"] == ports[port["targetPort"]]
    for probe, name in (("startup", health.LIVE), ("liveness", health.LIVE), ("readiness", health.READY)):
        assert container[f"{probe}Probe"]["grpc"] == {"port": ports["health"], "service": name}
    before = timedelta(seconds=container["lifecycle"]["preStop"]["sleep"]["seconds"])
    assert timedelta(seconds=pod["terminationGracePeriodSeconds"]) > before + told.stop_grace
