"""Tables of loads, good and bad."""

from __future__ import annotations

import math

import pytest

from diagnosis.metrics.forecast.table import read_load
from errors import InvalidInput


@pytest.mark.parametrize(
    ("text", "column"),
    [
        ("timestamp,value\n2024-01-01 00:00:00,1\n2024-01-01T01:00:00Z,\n", None),
        ("\ufefftime,load\n1704067200,1\n1704070800,nan\n\n", None),
        ("a,ts,b\n0,1704067200000,1\n0,1704070800000,-\n", "b"),
        ("Date,jobs\n2024-01-01T02:00:00+02:00,1\n2024-01-01 01:00:00+00:00,null\n", None),
    ],
)
def test_tables_of_many_forms(text: str, column: str | None) -> None:
    times, loads = read_load(text, "t.csv", column=column)
    assert times.tolist() == [1_704_067_200, 1_704_070_800]
    assert loads[0] == 1 and math.isnan(loads[1])


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "no time column"),
        ("a,b\n1,2\n", "no time column"),
        ("time,value\n", "no row"),
        ("time,value\n2024-01-01,many\n", "line 2: 'many' is no number"),
        ("time,value\n1704067200,1\nyesterday,2\n", "line 3: 'yesterday' is no time"),
        ("time,value\n1e300,2\n", "is no time"),
        ("time,value\n-5,2\n", "is no time"),
        ("time,value\n1704067200,1,2\n", "line 2: 3 cells"),
        ("time,a,b\n1704067200,1,2\n", "name the one with the load"),
        ('time,value\n1704067200,"' + "9" * 200_000 + '"\n', "no CSV table"),
        ("time,value\n1704067200,\x1b[31mx\n", "'[31mx' is no number"),
    ],
)
def test_what_cannot_be_read_is_named(text: str, said: str) -> None:
    with pytest.raises(InvalidInput) as error:
        read_load(text, "t.csv")
    assert said in str(error.value) and "t.csv" in str(error.value)


def test_a_column_that_is_not_there_is_named() -> None:
    with pytest.raises(InvalidInput, match="no column 'qps'"):
        read_load("time,value\n1704067200,1\n", "t.csv", column="qps")
