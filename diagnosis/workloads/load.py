"""A snapshot from files: `kubectl get … -o json` in any mix, a `kubectl cluster-info dump`, or one of our own.

A file that cannot be used is one line in the snapshot's `unseen`, naming it; the rest is used.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from diagnosis.workloads.fields import Object, objects, pick, strings, text, when
from diagnosis.workloads.metrics import (
    MAX_ALERTS,
    MAX_SERIES,
    Alert,
    Series,
    is_answer,
    read_alerts,
    read_answer,
)
from diagnosis.workloads.snapshot import LogKey, Snapshot
from errors import InvalidInput

MANIFEST = "paramedic-snapshot.json"
MAX_FILE_BYTES = 256 << 20
MAX_LOG_BYTES = 1 << 20
"""Of a log, the end is read: it tells why the container ended."""
MAX_FILES = 20_000

_KINDS = (
    "Pod Event Deployment ReplicaSet StatefulSet DaemonSet Job CronJob Service ConfigMap Secret Node ResourceQuota "
    "LimitRange ServiceAccount PersistentVolumeClaim ControllerRevision Namespace EndpointSlice PodDisruptionBudget "
    "HorizontalPodAutoscaler PersistentVolume StorageClass ValidatingWebhookConfiguration MutatingWebhookConfiguration "
    "Role RoleBinding ClusterRole ClusterRoleBinding Lease HTTPRoute Gateway"
)
_PLURAL_KINDS = {f"{kind.lower()}s": kind for kind in _KINDS.split()}
_PLURAL_KINDS |= {
    "endpoints": "Endpoints", "ingresses": "Ingress", "networkpolicies": "NetworkPolicy",
    "storageclasses": "StorageClass", "replicationcontrollers": "ReplicationController",
}  # fmt: skip
_DUMP_START = re.compile(r"^==== START logs for container (\S+) of pod (\S+)/(\S+) ====$")
_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")
_DUMP_END = re.compile(r"^==== END logs for container ")


@dataclass
class _Loading:
    items: list[Object] = field(default_factory=list)
    logs: dict[LogKey, str] = field(default_factory=dict)
    unseen: list[str] = field(default_factory=list)
    complete: set[tuple[str, str]] = field(default_factory=set)
    absent: set[tuple[str, str, str]] = field(default_factory=set)
    whole_kinds: set[str] = field(default_factory=set)
    observed_at: datetime | None = None
    focus: str | None = None
    series: list[Series] = field(default_factory=list)
    alerts: list[Alert] = field(default_factory=list)


def load_snapshot(path: Path) -> Snapshot:
    """Read a file or folder. Raises InvalidInput when nothing in it is a Kubernetes object."""
    if not path.exists():
        raise InvalidInput(f"{path} does not exist")
    loading = _Loading()
    for file in _files(path, loading):
        name = file.relative_to(path).as_posix() if file != path else file.name
        if file.suffix == ".log" and "logs" in file.relative_to(path).parts[:-1]:
            _read_log(file, loading)
        elif file.name == "logs.txt":
            _read_dump_logs(file, loading)
        elif file.suffix == ".json" or file == path:
            _read_json(file, name, loading)
    if not loading.items:
        why = f": {loading.unseen[0]}" if loading.unseen else ""
        raise InvalidInput(f"{path} has no Kubernetes objects; give `kubectl get … -o json` output{why}")
    snapshot = Snapshot(
        loading.items,
        logs=loading.logs,
        observed_at=loading.observed_at,
        unseen=loading.unseen,
        complete=loading.complete,
        absent=loading.absent,
        focus=loading.focus,
        series=loading.series,
        alerts=loading.alerts,
    )
    snapshot.complete |= {(kind, space) for kind in loading.whole_kinds for space in ["", *snapshot.namespaces()]}
    return snapshot


def _files(path: Path, loading: _Loading) -> Iterator[Path]:
    if not path.is_dir():
        yield path
        return
    for count, file in enumerate(sorted(path.rglob("*"))):
        if count >= MAX_FILES:
            loading.unseen.append(f"{path}: only the first {MAX_FILES} files were read")
            return
        if file.is_file():
            yield file


def _read_json(file: Path, name: str, loading: _Loading) -> None:
    try:
        if file.stat().st_size > MAX_FILE_BYTES:
            loading.unseen.append(f"{name}: larger than {MAX_FILE_BYTES >> 20} MiB, not read")
            return
        content = file.read_bytes().decode("utf-8-sig")
        documents = list(_documents(content))
    except OSError as error:
        loading.unseen.append(f"{name}: cannot be read ({error.strerror})")
        return
    except UnicodeDecodeError:
        loading.unseen.append(f"{name}: not text")
        return
    except json.JSONDecodeError as error:
        loading.unseen.append(f"{name}: not JSON (line {error.lineno}: {error.msg})")
        return
    except (RecursionError, ValueError):
        loading.unseen.append(f"{name}: not JSON that can be read (nested too deep, or a number too long)")
        return
    if file.name == MANIFEST:
        for document in documents:
            _read_manifest(document, loading)
        return
    if _read_measurements(documents, file, name, loading):
        return
    before = len(loading.items)
    for document in documents:
        _add_document(document, file, loading)
    empty_list = any(text(document, "kind").endswith("List") for document in documents)
    if len(loading.items) == before and not empty_list:
        loading.unseen.append(f"{name}: holds no Kubernetes object")


def _read_measurements(documents: list[object], file: Path, name: str, loading: _Loading) -> bool:
    """Prometheus answers (`metrics/*.json`) and Alertmanager's alerts (`alerts.json`); whether the file is such."""
    if file.stem == "alerts":
        found = [alert for document in documents for alert in read_alerts(document)]
        loading.alerts += found[: MAX_ALERTS - len(loading.alerts)]
        if len(loading.alerts) >= MAX_ALERTS:
            loading.unseen.append(f"{name}: only the first {MAX_ALERTS} alerts were read")
        if not found and any(documents):
            loading.unseen.append(f"{name}: holds no alert")
        return True
    if not any(is_answer(document) for document in documents) and file.parent.name != "metrics":
        return False
    for document in documents:
        room = MAX_SERIES - len(loading.series)
        found_series, missed = read_answer(document, file.stem, name, room)
        loading.series += found_series
        loading.unseen += [f"{name}: {sentence}" for sentence in missed]
    return True


def _documents(content: str) -> Iterator[object]:
    """One JSON document after another, as several kubectl calls appended to one file give."""
    decoder = json.JSONDecoder()
    halves = _SURROGATE.search(content) is not None
    position = 0
    while True:
        while position < len(content) and content[position].isspace():
            position += 1
        if position >= len(content):
            return
        document, position = decoder.raw_decode(content, position)
        yield _valid(document) if halves else document


def _valid(value: Any) -> Any:
    """The same with halves of surrogate pairs as escapes: JSON can spell them, text cannot hold them."""
    if isinstance(value, str):
        return value.encode("utf-8", "backslashreplace").decode()
    if isinstance(value, list):
        return [_valid(item) for item in value]
    if isinstance(value, dict):
        return {_valid(key): _valid(item) for key, item in value.items()}
    return value


def _add_document(document: object, file: Path, loading: _Loading) -> None:
    kind = text(document, "kind")
    listed = objects(document, "items")
    if kind.endswith("List") and isinstance(pick(document, "items"), list):
        item_kind = kind.removesuffix("List")
        for item in listed:
            if item_kind and not text(item, "kind"):  # typed lists do not repeat it on each item
                item = {"apiVersion": text(document, "apiVersion"), "kind": item_kind, **item}
            _add_object(item, loading)
        whole = item_kind or _PLURAL_KINDS.get(file.stem.lower())
        if whole:
            loading.whole_kinds.add(whole)
    elif isinstance(document, list):
        for item in document:
            _add_document(item, file, loading)
    elif isinstance(document, dict):
        _add_object(document, loading)


def _add_object(item: Object, loading: _Loading) -> None:
    if text(item, "kind") and isinstance(pick(item, "metadata"), dict):
        loading.items.append(item)


def _read_manifest(document: object, loading: _Loading) -> None:
    loading.observed_at = when(document, "observed_at")
    loading.unseen += strings(document, "unseen")
    loading.focus = text(document, "namespace") or None
    for entry in pick(document, "complete") or []:
        if len(pair := strings([entry], 0)) == 2:
            loading.complete.add((pair[0], pair[1]))
    for entry in pick(document, "absent") or []:
        if len(triple := strings([entry], 0)) == 3:
            loading.absent.add((triple[0], triple[1], triple[2]))


def _read_log(file: Path, loading: _Loading) -> None:
    """`…/logs/<namespace>/<pod>/<container>[.previous].log`"""
    *_, folder, namespace, pod, name = file.parts
    if folder != "logs":
        return
    container = name.removesuffix(".log")
    previous = container.endswith(".previous")
    content = _tail(file, loading)
    if content is not None:
        loading.logs[namespace, pod, container.removesuffix(".previous"), previous] = content


def _read_dump_logs(file: Path, loading: _Loading) -> None:
    """`kubectl cluster-info dump` writes the logs of all containers of a pod into one file with marks."""
    current: LogKey | None = None
    lines: list[str] = []
    for line in (_tail(file, loading) or "").split("\n"):
        if match := _DUMP_START.match(line):
            current, lines = (match[2], match[3], match[1], False), []
        elif _DUMP_END.match(line) and current is not None:
            loading.logs[current] = "\n".join(lines)
            current = None
        elif current is not None:
            lines.append(line)


def _tail(file: Path, loading: _Loading) -> str | None:
    try:
        with file.open("rb") as stream:
            size = stream.seek(0, 2)
            stream.seek(max(0, size - MAX_LOG_BYTES))
            return stream.read().decode("utf-8", "backslashreplace")
    except OSError as error:
        loading.unseen.append(f"{file.name}: cannot be read ({error.strerror})")
        return None
