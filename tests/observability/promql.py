"""Which metrics an expression of Prometheus is about, and by which labels."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

TOKEN = re.compile(
    r"""\s+|(?P<string>"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*')|(?P<duration>\d+(?:ms|[smhdwy]))|(?P<number>\d+(?:\.\d+)?)"""
    r"""|(?P<name>\$?[A-Za-z_][A-Za-z0-9_:]*)|(?P<mark>[-+*/%^=!<>~(){}\[\],]+?)"""
)
GROUPING = {"by", "without", "on", "ignoring", "group_left", "group_right"}
WORDS = GROUPING | {"and", "or", "unless", "offset", "bool", "inf", "nan"}


@dataclass
class Use:
    """The metrics of an expression and the labels asked of each of them; `grouped` are asked of any."""

    metrics: dict[str, set[str]] = field(default_factory=dict)
    grouped: set[str] = field(default_factory=set)


def used(expression: str) -> Use:
    """Read an expression; raises `ValueError` for what is none."""
    tokens = _tokens(expression)
    use, at, metric = Use(), 0, ""
    while at < len(tokens):
        kind, text = tokens[at]
        after = tokens[at + 1][1] if at + 1 < len(tokens) else ""
        if text == "{":
            end = _closing(tokens, at, "}")
            use.metrics[metric].update(name for kind, name in tokens[at:end] if kind == "name")
            at = end
        elif text == "[":
            at = _closing(tokens, at, "]")
        elif kind == "name" and text in GROUPING:
            end = _closing(tokens, at, ")")
            use.grouped.update(name for kind, name in tokens[at + 1 : end] if kind == "name")
            at = end
        # What is followed by a bracket is a function, unless it groups.
        elif kind == "name" and text not in WORDS and after != "(" and not _groups_next(tokens, at):
            metric = text
            use.metrics.setdefault(metric, set())
        at += 1
    return use


def _groups_next(tokens: list[tuple[str, str]], at: int) -> bool:
    return at + 1 < len(tokens) and tokens[at + 1][1] in GROUPING and tokens[at + 1][1] in {"by", "without"}


def _closing(tokens: list[tuple[str, str]], at: int, mark: str) -> int:
    return next(place for place in range(at, len(tokens)) if tokens[place][1] == mark)


def _tokens(expression: str) -> list[tuple[str, str]]:
    found, at = [], 0
    while at < len(expression):
        match = TOKEN.match(expression, at)
        if match is None:
            raise ValueError(f"not an expression from here: {expression[at:]!r}")
        if match.lastgroup is not None:
            found.append((match.lastgroup, match.group()))
        at = match.end()
    return found
