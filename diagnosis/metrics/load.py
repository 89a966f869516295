"""Series from files: CSV tables, wide or long, and saved answers of Prometheus' HTTP API.

A wide table has a time column and one column a series; what is no number in it is a label of its row. A column named
`service_metric` (the form of the RCAEval sets), `caller_callee` or `name{label="value"}` carries its labels in its
name. A long table has the columns time, name and value, and each further column is a label. A table with the columns
source and target (or caller and callee) and without a time holds edges. A saved answer of `/api/v1/metadata` says which
names are counters and which are gauges. `.gz` is read as what is in it.
"""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

from diagnosis.metrics.edges import Edge
from diagnosis.metrics.prometheus_json import read_document, read_types
from diagnosis.metrics.series import Kind, MetricSeries, plain
from diagnosis.metrics.table import read_table
from errors import InputTooLarge, InvalidInput

MAX_FILES = 2_000
MAX_FILE_BYTES = 256 * 1024 * 1024
"""Of one file, unpacked."""
MAX_TOTAL_BYTES = 1024 * 1024 * 1024
MAX_LOADED = 50_000
_ENDINGS = (".csv", ".json", ".csv.gz", ".json.gz")


@dataclass
class Loaded:
    """What was read, and one sentence for each thing that was not. `types` is what a saved answer of Prometheus'
    metadata says of series by their names."""

    series: list[MetricSeries] = field(default_factory=list)
    types: dict[str, Kind] = field(default_factory=dict)
    edges: list[Edge] = field(default_factory=list)
    unseen: list[str] = field(default_factory=list)


def load_series(path: Path) -> Loaded:
    """The series and edges of a file, or of all `.csv` and `.json` files (also `.gz`) under a folder.

    Raises InvalidInput when nothing there can be read, when a single file is unusable, and InputTooLarge past the
    limits. Of a folder, an unusable file beside usable ones is a sentence in `unseen`.
    """
    try:
        single = path.is_file()
        files = [path] if single else sorted(_files(path))
    except OSError as error:
        raise InvalidInput(f"{path} cannot be read: {error.strerror}") from None
    if not single and not path.is_dir():
        raise InvalidInput(f"{path} is no file and no folder")
    if not files:
        raise InvalidInput(f"{path} holds no {', '.join(_ENDINGS)} file")
    found = Loaded()
    if len(files) > MAX_FILES:
        found.unseen.append(f"only the first {MAX_FILES} of {len(files)} files were read")
    total = 0
    for file in files[:MAX_FILES]:
        try:
            text = _text(file)
            total += len(text)
            if total > MAX_TOTAL_BYTES:
                raise InputTooLarge(
                    f"the files hold more than {MAX_TOTAL_BYTES >> 20} MB: give fewer, or a shorter range"
                )
            _read(file, text, found)
        except InputTooLarge:
            raise
        except InvalidInput as error:
            if single:
                raise
            found.unseen.append(f"{plain(file.name)} was not read: {error}")
        if len(found.series) > MAX_LOADED:
            found.unseen.append(f"only the first {MAX_LOADED} of {len(found.series)} or more series were read")
            del found.series[MAX_LOADED:]
            break
    if not found.series:
        raise InvalidInput(f"{path} holds no series: {'; '.join(found.unseen[:3]) or 'every table is empty'}")
    found.series = [
        replace(one, kind=found.types[one.name], typed=True) if one.name in found.types else one for one in found.series
    ]
    return found


def _files(folder: Path) -> Iterator[Path]:
    for file in folder.rglob("*"):
        if file.name.lower().endswith(_ENDINGS) and file.is_file():
            yield file


def _text(file: Path) -> str:
    try:
        with gzip.open(file) if file.name.lower().endswith(".gz") else file.open("rb") as stream:
            data = stream.read(MAX_FILE_BYTES + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise InvalidInput(f"it cannot be read ({error})") from None
    if len(data) > MAX_FILE_BYTES:
        raise InputTooLarge(
            f"{file.name} is larger than {MAX_FILE_BYTES >> 20} MB: give a shorter range or fewer series"
        )
    if b"\0" in data[:4096]:
        raise InvalidInput("it is binary, no table and no JSON")
    return data.decode("utf-8-sig", "replace")


def _read(file: Path, text: str, found: Loaded) -> None:
    if ".json" in file.suffixes[-2:]:
        try:
            document = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise InvalidInput(f"it is no JSON: {error}") from None
        types = read_types(document)
        if types is None:
            found.series += read_document(document, file.name, found.unseen)
        else:
            found.types |= types
        return
    table = read_table(text, file.name)
    found.series += table.series
    found.edges += table.edges
    found.unseen += table.unseen
