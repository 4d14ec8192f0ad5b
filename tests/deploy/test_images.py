"""The images and the compose file are made for the services as they are. Nothing is built: that takes an engine."""

from __future__ import annotations

import re
from typing import Any

import pytest
import yaml

from tests.deploy.manifests import DEPLOY, SETTINGS
from tests.deploy.test_manifests import settings_of, unknown

DOCKER = DEPLOY / "docker"


@pytest.mark.parametrize("service", SETTINGS)
def test_variables_and_ports_of_compose_are_those_of_the_service(service: str, monkeypatch: pytest.MonkeyPatch) -> None:
    composed = compose("compose.yaml")[service]
    secured = compose("compose.secure.yaml")[service]
    environment = composed["environment"] | secured["environment"]
    assert unknown(environment) == []
    settings = settings_of(service, environment, monkeypatch)
    listen = int(settings.listen.rpartition(":")[2])
    assert composed["ports"] == [f"127.0.0.1:${{{service.upper()}_PORT:-{listen}}}:{listen}"]
    exposed = {listen, *(int(other.rpartition(":")[2]) for other in (settings.health_listen, settings.metrics_listen))}
    assert {int(port) for port in instructions(service, "EXPOSE")[0].split()} == exposed


@pytest.mark.parametrize("service", SETTINGS)
def test_compose_protects_nothing_unless_it_is_told_to(service: str) -> None:
    assert compose("compose.yaml")[service]["command"] == ["serve", service, "--insecure"]
    assert compose("compose.secure.yaml")[service]["command"] == ["serve", service]


@pytest.mark.parametrize("service", SETTINGS)
def test_containers_run_as_somebody_without_rights_on_a_read_only_root(service: str) -> None:
    user = instructions(service, "USER")[-1]
    assert re.fullmatch(r"[1-9]\d*:[1-9]\d*", user)
    composed = compose("compose.yaml")[service]
    assert composed["read_only"] is True
    assert composed["cap_drop"] == ["ALL"]


@pytest.mark.parametrize("service", SETTINGS)
def test_what_an_image_is_made_of_is_there(service: str) -> None:
    root = DEPLOY.parent
    for line in instructions(service, "COPY"):
        if not line.startswith("--from"):
            *sources, _ = line.split()
            assert [source for source in sources if not (root / source).exists()] == []
            kept = (root / ".dockerignore").read_text().split()
            assert [source for source in sources if f"!{source}" not in kept] == []


def compose(name: str) -> dict[str, Any]:
    services: dict[str, Any] = yaml.safe_load((DOCKER / name).read_text())["services"]
    return services


def instructions(service: str, name: str) -> list[str]:
    text = (DOCKER / f"Containerfile.{service}").read_text()
    return [line.removeprefix(f"{name} ") for line in text.splitlines() if line.startswith(f"{name} ")]
