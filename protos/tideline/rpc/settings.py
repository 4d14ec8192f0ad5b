"""Types that the settings of both services are made of."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated, Any

from pydantic import BeforeValidator, Field


def _in_seconds(value: Any) -> Any:
    """Take a bare number for seconds: in the environment it is a text, which would have to be ISO 8601."""
    try:
        return float(value) if isinstance(value, str) else value
    except ValueError:
        return value


Positive = Annotated[int, Field(gt=0)]
Time = Annotated[timedelta, BeforeValidator(_in_seconds), Field(ge=timedelta(0))]
PositiveTime = Annotated[timedelta, BeforeValidator(_in_seconds), Field(gt=timedelta(0))]
