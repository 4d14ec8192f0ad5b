"""The dashboard and the alert rules, held against what running services export."""

from __future__ import annotations

import json
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from tests.observability.conftest import scrape
from tests.observability.promql import used

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.observability.conftest import Told

FILES = Path(__file__).parents[2] / "deploy" / "observability"
OF_THE_SCRAPE = {"job", "instance"}
"""Labels that Prometheus adds by itself."""


def dashboard() -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads((FILES / "dashboard.json").read_text())
    return loaded


def alerts() -> list[dict[str, Any]]:
    groups = yaml.safe_load((FILES / "alerts.yaml").read_text())["groups"]
    return [rule for group in groups for rule in group["rules"]]


def expressions() -> Iterator[tuple[str, str]]:
    """Yield every expression with what it is for."""
    for panel in dashboard()["panels"]:
        for target in panel.get("targets", ()):
            yield panel["title"], target["expr"].replace("$__rate_interval", "5m")
    for rule in alerts():
        yield rule["alert"], rule["expr"]


@pytest.fixture(scope="module")
def exported(told: Told) -> dict[str, set[str]]:
    """The labels of everything that the services export, by the name of the sample."""
    labels: dict[str, set[str]] = {}
    for port in told.ports.values():
        for name, samples in scrape(port).items():
            labels.setdefault(name, set()).update(*samples)
    return labels


def test_they_ask_for_nothing_that_the_services_do_not_export(exported: dict[str, set[str]]) -> None:
    asked = {place: used(expression) for place, expression in expressions()}
    assert len(asked) > 30
    unknown = {(place, metric) for place, use in asked.items() for metric in use.metrics if metric not in exported}
    assert unknown == set()


def test_they_tell_apart_by_labels_that_are_there(exported: dict[str, set[str]]) -> None:
    for place, expression in expressions():
        use = used(expression)
        for metric, labels in use.metrics.items():
            # What failed is not there to be looked at while nothing fails.
            if metric != "tideline_dependency_errors_total":
                assert labels | use.grouped <= exported[metric] | OF_THE_SCRAPE, (place, metric)


def test_all_that_is_exported_of_tideline_is_shown(exported: dict[str, set[str]]) -> None:
    shown = {metric for _, expression in expressions() for metric in used(expression).metrics}
    ends = ("_bucket", "_sum", "_count")
    families = {name.removesuffix(end) for name in exported for end in ends if name.endswith(end)}
    ours = {
        name
        for name in exported
        if name.startswith("tideline_")
        and not name.endswith("_created")
        and not any(name.startswith(family) for family in families)
    }
    assert ours - shown == set()
    assert {family for family in families if not any(metric.startswith(family) for metric in shown)} == set()


def test_the_dashboard_is_laid_out_without_overlaps() -> None:
    taken: set[tuple[int, int]] = set()
    for panel in dashboard()["panels"]:
        place = panel["gridPos"]
        columns, rows = range(place["x"], place["x"] + place["w"]), range(place["y"], place["y"] + place["h"])
        cells = set(product(columns, rows))
        assert max(x for x, _ in cells) < 24
        assert not cells & taken, panel["title"]
        taken |= cells
    assert len({panel["id"] for panel in dashboard()["panels"]}) == len(dashboard()["panels"])


@pytest.mark.parametrize(
    ("expression", "metrics"),
    [
        ('sum by (le, a) (rate(x_bucket{job=~"$job", b!="1"}[5m])) > 1', {"x_bucket": {"job", "b"}}),
        ("time() - max(y > 0) > 7200", {"y": set()}),
        ("a / on (l) group_left (m) b unless c", {"a": set(), "b": set(), "c": set()}),
    ],
)
def test_expressions_are_read_right(expression: str, metrics: dict[str, set[str]]) -> None:
    assert used(expression).metrics == metrics
