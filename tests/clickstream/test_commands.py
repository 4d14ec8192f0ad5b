"""Commands that read the settings of the service say in a line which of them is wrong."""

from __future__ import annotations

import pytest

from tideline.cli import main


@pytest.mark.parametrize("command", ["migrate clickstream", "rekey clickstream", "clean", "rebuild-rollups"])
def test_a_setting_that_is_wrong_is_named_and_not_repeated(
    command: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("CLICKSTREAM_MONGO_URI", "open-sesame")
    assert main(command.split()) == 1
    told, failed = capsys.readouterr()
    assert told == ""
    assert failed.count("\n") == 1
    assert "mongo_uri: " in failed
    assert "open-sesame" not in failed
