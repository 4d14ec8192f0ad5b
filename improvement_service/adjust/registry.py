"""Finds adjusters by their entry point and checks their parameters. Torch is loaded with the first adjuster only."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.metadata import entry_points
from math import inf, isfinite
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping

    from improvement_service.adjust.evidence import Evidence, Floats
    from improvement_service.domain.index import Aggregation, Metric

GROUP = "tideline.adjusters"


class AdjusterError(ValueError):
    """An adjuster or one of its parameters cannot be used; `field` is `adjuster` or the parameter's name."""

    def __init__(self, field: str, message: str) -> None:
        super().__init__(message)
        self.field = field


@dataclass(frozen=True)
class Parameter:
    """A number that an adjuster takes: at least `least` (above it when `above`), at most `most`."""

    default: float | None
    least: float = 0.0
    most: float = inf
    above: bool = False
    whole: bool = False

    def check(self, name: str, value: float) -> float:
        """Return `value`; raises `AdjusterError` when it is out of range."""
        enough = value > self.least if self.above else value >= self.least
        if not (isfinite(value) and enough and value <= self.most):
            bounds = f"{'above' if self.above else 'at least'} {self.least:g}"
            bounds += f" and at most {self.most:g}" if self.most < inf else ""
            raise AdjusterError(name, f"{name} must be {bounds}, not {value:g}")
        if self.whole and value != int(value):
            raise AdjusterError(name, f"{name} must be a whole number, not {value:g}")
        return value


def resolve(declared: Mapping[str, Parameter], given: Mapping[str, float]) -> dict[str, float]:
    """Return the values given, and the defaults of the rest where they have one.

    Raises `AdjusterError` when a name is unknown or a value out of range.
    """
    for name in given:
        if name not in declared:
            raise AdjusterError(name, f"unknown parameter {name!r}; known: {', '.join(declared)}")
    defaults = {name: parameter.default for name, parameter in declared.items() if parameter.default is not None}
    return defaults | {name: declared[name].check(name, value) for name, value in given.items()}


class VectorsAdjuster(Protocol):
    """Moves vectors by evidence."""

    def adjust(self, evidence: Evidence) -> Floats:
        """Return the new rows, [R, D]; rows without evidence are byte-identical to the original ones.

        A row depends on nothing but its own item, the sessions that name this item and the entries of these sessions.
        """


class AdjusterFactory(Protocol):
    """What an entry point of `tideline.adjusters` names: a class, or any callable like it."""

    def __call__(
        self, metric: Metric, aggregation: Aggregation, parameters: Mapping[str, float], device: str | None
    ) -> VectorsAdjuster:
        """Make an adjuster; raises `AdjusterError` on parameters that do not fit."""


def load(
    name: str,
    metric: Metric,
    aggregation: Aggregation,
    parameters: Mapping[str, float] | None = None,
    device: str | None = None,
) -> VectorsAdjuster:
    """Make the adjuster of this name; `device` None takes CUDA when there is one, else the CPU.

    Raises `AdjusterError` (a ValueError) when the name or a parameter is unknown or a value is out of range.
    """
    found = entry_points(group=GROUP)
    if name not in found.names:
        raise AdjusterError("adjuster", f"unknown adjuster {name!r}; installed: {', '.join(sorted(found.names))}")
    factory: AdjusterFactory = found[name].load()
    return factory(metric, aggregation, parameters or {}, device)
