"""What kustomize makes of `deploy/base` and the overlays, as tests look at it."""

from __future__ import annotations

import base64
import functools
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from clickstream_service.config import Settings as ClickstreamSettings
from improvement_service.config import Settings as ImprovementSettings

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pydantic_settings import BaseSettings

DEPLOY = Path(__file__).parents[2] / "deploy"
OVERLAYS = ("base", "overlays/dev", "overlays/production", "overlays/gpu")
SETTINGS: Mapping[str, type[BaseSettings]] = {"clickstream": ClickstreamSettings, "improvement": ImprovementSettings}
EXAMPLES = "overlays/production/secrets.example.yaml"


@dataclass(frozen=True)
class Manifests:
    """The objects of an overlay, with the secrets that it wants as its example has them."""

    objects: Sequence[Mapping[str, Any]]

    def all(self, kind: str) -> Sequence[Mapping[str, Any]]:
        return [each for each in self.objects if each["kind"] == kind]

    def one(self, kind: str, name: str) -> Mapping[str, Any]:
        (found,) = (each for each in self.all(kind) if each["metadata"]["name"] == name)
        return found

    def pods(self) -> Mapping[str, Mapping[str, Any]]:
        """What pods of Tideline's own images are made of, by the name of what makes them."""
        makers = [*self.all("Deployment"), *self.all("Job")]
        return {maker["metadata"]["name"]: maker["spec"]["template"]["spec"] for maker in makers}

    def environment(self, pod: Mapping[str, Any]) -> Mapping[str, str]:
        """What the only container of a pod is given, from maps, from secrets and by itself."""
        (container,) = pod["containers"]
        values: dict[str, str] = {}
        for source in container.get("envFrom", ()):
            if "configMapRef" in source:
                values |= self.one("ConfigMap", source["configMapRef"]["name"])["data"]
            else:
                values |= self.secret(source["secretRef"]["name"])
        return values | {each["name"]: each["value"] for each in container.get("env", ())}

    def secret(self, name: str) -> Mapping[str, str]:
        secret = next((each for each in self.all("Secret") if each["metadata"]["name"] == name), None)
        if secret is None:
            (secret,) = (each for each in examples() if each["metadata"]["name"] == name)
        plain: Mapping[str, str] = secret.get("stringData", {})
        return {**plain, **{key: base64.b64decode(value).decode() for key, value in secret.get("data", {}).items()}}

    def files(self, pod: Mapping[str, Any]) -> set[str]:
        """The paths of all files that secrets bring into the only container of a pod."""
        (container,) = pod["containers"]
        mounted = {each["name"]: each["mountPath"] for each in container.get("volumeMounts", ())}
        return {
            f"{mounted[volume['name']]}/{key}"
            for volume in pod.get("volumes", ())
            if "secret" in volume
            for key in self.secret(volume["secret"]["secretName"])
        }


def examples() -> Sequence[Mapping[str, Any]]:
    return list(yaml.safe_load_all((DEPLOY / EXAMPLES).read_text()))


@functools.cache
def rendered(overlay: str) -> str:
    """Return an overlay as it would be applied; skips the test where there is nothing that makes it."""
    command = _kustomize()
    if command is None:
        pytest.skip("neither kubectl with kustomize 5 nor kustomize is there (.ci/toolchains installs one)")
    made = subprocess.run([*command, DEPLOY / overlay], capture_output=True, text=True, check=False)
    assert made.returncode == 0, made.stderr
    assert made.stderr == "", "kustomize warns"
    return made.stdout


def manifests(overlay: str) -> Manifests:
    return Manifests(list(yaml.safe_load_all(rendered(overlay))))


@functools.cache
def _kustomize() -> Sequence[str] | None:
    if shutil.which("kubectl"):
        version = subprocess.run(["kubectl", "version", "--client"], capture_output=True, text=True, check=False).stdout
        if "Kustomize Version: v5" in version:
            return ("kubectl", "kustomize")
    return ("kustomize", "build") if shutil.which("kustomize") else None
