"""The sizing page says what its calculation says."""

from __future__ import annotations

from pathlib import Path

import pytest

from deploy import sizing

PAGE = Path(sizing.__file__).with_name("SIZING.md")


@pytest.mark.parametrize("workload", [sizing.Workload(), sizing.Workload(users=12.5e6, events=1.25e9)])
def test_the_page_has_the_tables_that_the_command_prints(workload: sizing.Workload) -> None:
    assert sizing.table(workload) in PAGE.read_text()


def test_twice_the_work_takes_twice_as_much() -> None:
    once = dict(sizing.needs(sizing.Workload()))
    twice = dict(sizing.needs(sizing.Workload(users=200e6, events=20e9)))
    disk = "disk in MongoDB, one copy"
    assert float(twice[disk].split()[0]) == pytest.approx(2 * float(once[disk].split()[0]), rel=0.01)


def test_unit_costs_of_the_page_are_those_that_are_counted_with() -> None:
    page = PAGE.read_text()
    counted = {name: value for name, value in vars(sizing).items() if name.endswith(("_CPU", "_BYTES"))}
    assert [name for name, value in counted.items() if f"{value:,}" not in page] == []
