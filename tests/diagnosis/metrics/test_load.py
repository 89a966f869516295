"""Series from files: every form, and what is bad about files."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import numpy as np
import pytest

from diagnosis.metrics import load
from diagnosis.metrics.edges import Edge
from diagnosis.metrics.load import load_series
from diagnosis.metrics.series import Kind
from errors import InputTooLarge, InvalidInput


def written(folder: Path, name: str, text: str | bytes) -> Path:
    path = folder / name
    data = text.encode() if isinstance(text, str) else text
    path.write_bytes(gzip.compress(data) if name.endswith(".gz") else data)
    return path


def test_a_wide_table_in_the_form_of_rcaeval(tmp_path: Path) -> None:
    path = written(tmp_path, "data.csv", "time,cart-db_cpu,frontend_latency-90\n100,1,2\n110,,4\n120,3,nan\n")
    cpu, latency = load_series(path).series
    assert (cpu.name, cpu.labels, cpu.source) == ("cpu", {"service": "cart-db"}, "data.csv")
    assert latency.name == "latency-90"
    assert cpu.times.tolist() == [100, 110, 120]
    assert np.isnan(cpu.values[1]) and np.isnan(latency.values[2])


def test_columns_that_begin_with_a_measure_name_no_service(tmp_path: Path) -> None:
    path = written(tmp_path, "host.csv", "timestamp,cpu_usage,memory_usage\n1700000000000,1,2\n1700000060000,2,3\n")
    found = load_series(path).series
    assert [(one.name, dict(one.labels)) for one in found] == [("cpu_usage", {}), ("memory_usage", {})]
    assert found[0].times.tolist() == [1700000000.0, 1700000060.0]


def test_a_wide_table_of_a_pod_with_dates_as_go_prints_them(tmp_path: Path) -> None:
    text = (
        "Time,TimeStamp,PodName,CpuUsage(m)\n"
        "2022-08-22 03:51:19.607158889 +0000 UTC m=+0.113112869,9,cart-5f6585d649-fnmft,1.5\n"
        "2022-08-22 03:52:19.589328775 +0000 UTC m=+60.095282755,9,cart-5f6585d649-fnmft,2.5\n"
    )
    (one,) = load_series(written(tmp_path, "pod.csv.gz", text)).series
    assert one.labels == {"pod": "cart-5f6585d649-fnmft"}
    assert one.times[0] == pytest.approx(1661140279.607158)


def test_a_long_table_keeps_its_labels_apart(tmp_path: Path) -> None:
    text = "time,name,pod,value\n10,cpu,a,1\n10,cpu,b,2\n20,cpu,a,3\n20,http_requests_total,b,4\n"
    found = {one.key: one for one in load_series(written(tmp_path, "long.csv", text)).series}
    assert found['cpu{pod="a"}'].values.tolist() == [1, 3]
    assert found['http_requests_total{pod="b"}'].kind is Kind.COUNTER


def test_a_table_of_calls_and_one_of_edges(tmp_path: Path) -> None:
    written(tmp_path, "source_50.csv", "time,front_cart,cart_db\n1,2,3\n2,3,4\n")
    written(tmp_path, "dependency.csv", "Source,Target,Weight\nfront,cart,1\ncart,db,1\ncart,,1\n")
    found = load_series(tmp_path)
    assert found.edges == [Edge("front", "cart"), Edge("cart", "db")]
    assert found.series[0].name == "source_50"
    assert found.series[0].labels == {"source_workload": "front", "destination_workload": "cart"}


def test_saved_answers_of_prometheus(tmp_path: Path) -> None:
    document = {
        "status": "success",
        "data": {
            "resultType": "matrix",
            "result": [
                {"metric": {"__name__": "up", "pod": "a"}, "values": [[10, "1"], [20, "NaN"], [30, "+Inf"], [40, "0"]]},
                {"metric": {"pod": "b"}, "values": [[10, "1"], "rubbish", [20, "two"], [30, "3"]]},
                {"metric": {"pod": "c"}, "values": []},
            ],
        },
    }
    path = written(tmp_path, "rate.json", json.dumps(document))
    found = load_series(path)
    up, unnamed = found.series
    assert up.name == "up" and np.isnan(up.values[1:3]).all() and up.values[[0, 3]].tolist() == [1, 0]
    assert unnamed.name == "rate" and unnamed.values.tolist() == [1, 3]
    assert found.unseen == ["rate.json: 1 series without a single sample were left out"]


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("a.csv", "", "empty"),
        ("a.csv", "a,b\n1,2\n", "no time column"),
        ("a.csv", "time,cpu\n", "no complete line"),
        ("a.csv", "time,cpu\nyesterday,1\n", "no time"),
        ("a.csv", "time,pod\n1,x\n", "no series"),
        ("a.csv", b"\x7fELF\0\0", "binary"),
        ("a.csv.gz", b"", "empty"),
        ("a.json", "{", "no JSON"),
        ("a.json", "[" * 100_000, "no JSON"),
        ("a.json", '{"kind": "List"}', "no answer of Prometheus"),
        ("a.json", '{"status": "error", "error": "parse error"}', "parse error"),
        ("a.json", '{"data": {"resultType": "matrix", "result": []}}', "no series"),
    ],
)
def test_a_bad_file_gets_one_clear_error(tmp_path: Path, name: str, text: str | bytes, said: str) -> None:
    with pytest.raises(InvalidInput, match=said):
        load_series(written(tmp_path, name, text))


def test_a_truncated_archive_and_a_missing_path(tmp_path: Path) -> None:
    whole = gzip.compress(b"time,cpu\n" + b"1,2\n" * 1000)
    (tmp_path / "cut.csv.gz").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InvalidInput, match="cannot be read"):
        load_series(tmp_path / "cut.csv.gz")
    with pytest.raises(InvalidInput, match="no file and no folder"):
        load_series(tmp_path / "nowhere")
    (tmp_path / "cut.csv.gz").unlink()
    with pytest.raises(InvalidInput, match=r"holds no \.csv"):
        load_series(tmp_path)


def test_bad_files_beside_good_ones_are_sentences(tmp_path: Path) -> None:
    written(tmp_path, "good.csv", "time,x_cpu\n1,2\n2,3,4\n3,4\n")
    written(tmp_path, "bad.json", "{")
    found = load_series(tmp_path)
    assert len(found.series) == 1
    assert any("bad.json was not read" in line for line in found.unseen)
    assert any("another number of cells" in line for line in found.unseen)


def test_what_is_too_large_is_refused_or_cut(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = written(tmp_path, "a.csv.gz", "time,x_a,x_b,x_c\n" + "1,2,3,4\n" * 500)
    monkeypatch.setattr(load, "MAX_LOADED", 2)
    found = load_series(path)
    assert len(found.series) == 2 and "only the first 2" in found.unseen[0]
    monkeypatch.setattr(load, "MAX_FILE_BYTES", 1000)  # unpacked it is 4 kB, packed 70 bytes
    with pytest.raises(InputTooLarge):
        load_series(path)


def test_saved_metadata_says_which_names_are_counters(tmp_path: Path) -> None:
    names = ("pods_total", "work_done", "jobs_total", "wait_seconds_sum", "odd_total")
    result = [
        {"metric": {"__name__": name, "pod": "a-0"}, "values": [[1.7e9 + 15 * index, str(index)] for index in range(9)]}
        for name in names
    ]
    written(tmp_path, "a.json", json.dumps({"status": "success", "data": {"resultType": "matrix", "result": result}}))
    told = {
        "pods_total": [{"type": "gauge"}, {"type": "gauge"}],
        "work_done": [{"type": "counter"}],
        "jobs": [{"type": "counter"}],
        "wait_seconds": [{"type": "histogram"}],
        "odd_total": [{"type": "gauge"}, {"type": "counter"}],
        "bad": 3,
    }
    written(tmp_path, "metadata.json", json.dumps({"status": "success", "data": told}))
    found = {one.name: (one.kind, one.typed) for one in load_series(tmp_path).series}
    assert found == {
        "pods_total": (Kind.GAUGE, True),
        "work_done": (Kind.COUNTER, True),
        "jobs_total": (Kind.COUNTER, True),
        "wait_seconds_sum": (Kind.COUNTER, True),
        "odd_total": (Kind.COUNTER, False),
    }
    (tmp_path / "a.json").unlink()
    with pytest.raises(InvalidInput, match="holds no series"):
        load_series(tmp_path)
