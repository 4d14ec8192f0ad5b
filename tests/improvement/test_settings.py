"""Settings under the names that operators know."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from improvement_service.config import Settings


def test_known_names_need_no_prefix(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {
        "IMPROVEMENT_SECONDS_INTERVAL": "60",
        "ADJUSTMENT_RATE": "0.05",
        "NUM_ITERATIONS": "3",
        "SOFTMIN_TEMPERATURE": "0.5",
    }.items():
        monkeypatch.setenv(name, value)

    settings = Settings()

    assert settings.seconds_interval == 60
    assert settings.adjuster_defaults() == {
        "torch_based": {"adjustment_rate": 0.05, "num_iterations": 3, "softmin_temperature": 0.5}
    }


def test_adjusters_have_their_own_defaults_unless_told_otherwise() -> None:
    assert Settings().adjuster_defaults() == {"torch_based": {}}
    assert Settings().seconds_interval == 1800


def test_a_setting_out_of_range_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IMPROVEMENT_FEEDBACK_LEASE", "7200")

    with pytest.raises(ValidationError, match="feedback_lease"):
        Settings()
