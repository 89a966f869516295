"""The metrics that are looked at by themselves, and how each is to be read: a rate before a sum, a quantile of buckets.

Names are those of cAdvisor, kube-state-metrics, node_exporter, Istio, the service graphs of traces
(https://grafana.com/docs/tempo/latest/metrics-from-traces/service_graphs/), the client libraries' process metrics, and,
by their form, requests and durations of programs.
"""

from __future__ import annotations

from collections.abc import Mapping, Set
from dataclasses import dataclass, replace
from typing import Literal

from diagnosis.metrics.series import Kind
from tools.prometheus.selectors import one_of, quoted, selector

Form = Literal["value", "rate", "increase", "ratio", "left", "quantile", "mean", "errors"]
Matcher = tuple[str, str, str]
QUANTILE = 0.9

CONTAINER = ("namespace", "pod", "container")
PROGRAM = ("namespace", "pod", "container", "deployment", "workload", "service", "app", "job", "instance")
NODE = ("node", "instance")
MESH = ("source_workload", "source_workload_namespace", "destination_workload", "destination_workload_namespace")
TRACES = ("client", "server")
_REAL: tuple[Matcher, ...] = (("container", "!=", quoted("")), ("container", "!=", quoted("POD")))
"""cAdvisor counts a pod's containers once more in rows without a container: both together would be double."""
_WHOLE: tuple[Matcher, ...] = (("container", "=", quoted("")), ("pod", "!=", quoted("")))
_PARTS = ("cpu", "device", "interface")
"""What cAdvisor counts apart within one container or pod."""
_THROTTLED, _SECONDS, _CORES = 0.01, 1e-3, 0.01
"""Shares of throttled periods, latencies, and parts of a processor that matter: what is less may be ten times what it
was only because its machine does something else for a moment. The client libraries' own buckets begin at 5 ms."""
_WAITING, _WORKING = 0.01, 0.1
"""Shares of the time in which something waits, and in which a disk works: less is nothing, whatever it was before. A
disk that is idle for nine tenths of the time holds nobody up."""
_WIRE = 1e5
"""Bytes per second, less than a hundredth of what the slowest networks of clusters carry."""
_OF_NODES = ("cpu", "mode", "device")
_DISKS: tuple[Matcher, ...] = (("device", "!~", quoted("(loop|ram|zram|sr|fd|dm-|md).*")),)
"""Disks themselves: what is laid over them would count once more."""
_FILESYSTEMS: tuple[Matcher, ...] = (
    ("fstype", "!~", quoted("tmpfs|ramfs|devtmpfs|overlay|squashfs|erofs|iso9660|fuse.*|nfs.*|autofs")),
)
_WIRES: tuple[Matcher, ...] = (
    ("device", "!~", quoted("(lo|veth|cali|cilium|lxc|lxd|cni|docker|br-|virbr|flannel|vxlan|geneve|weave|kube|"
                            "nodelocaldns|ifb|dummy|tun|tap|wg|ovs|gre|sit|ip6tnl|bonding_masters).*")),
)  # fmt: skip
"""Without pods' ends and bridges: what they carry is told of the pods, and passes the node's own devices again."""
_SOURCE: tuple[Matcher, ...] = (("reporter", "=", quoted("source")),)
"""What the caller measured: it holds the network and the callee's queue, and is credited to the callee."""
_FAILED: tuple[Matcher, ...] = (
    *((label, "=~", quoted("5..")) for label in ("code", "status", "status_code", "response_code",
                                                  "http_status_code", "http_response_status_code")),
    ("grpc_code", "=~", quoted("Unknown|DeadlineExceeded|ResourceExhausted|Internal|Unavailable|DataLoss")),
)  # fmt: skip
"""What of requests counts as failed by the server."""


@dataclass(frozen=True)
class Wanted:
    """One family of series. `name` is how they are called in the answer, `metric` what the server has.

    `inside` is the label that a namespace is looked for in; empty: the metric has none. `parts` are labels to sum over;
    rows that differ in others are copies, as of a kubelet whose /metrics/cadvisor and /metrics/resource are both
    scraped, and the largest counts. None: all is summed. What is below `least` counts as that, and a smaller change is
    none: nobody would notice.
    """

    name: str
    metric: str
    form: Form
    by: tuple[str, ...]
    unit: str | None = None
    matchers: tuple[Matcher, ...] = ()
    over: str = ""  # of a ratio: the metric below the line
    inside: str = "namespace"
    parts: tuple[str, ...] | None = None
    least: float = 0.0

    def expression(self, namespace: str | None, span: str) -> str:
        """PromQL; `span` is the range of rates, such as `60s`. Rates come before sums: a counter that began again is
        seen by its own series alone. A kubelet's values end with that range, too: they carry times of their own, so
        that those of a container that is gone would last for five minutes beside the next one's."""
        by = ", ".join(self.by)

        def at(metric: str, *more: Matcher) -> str:
            return selector(metric, *self.scope(namespace), *self.matchers, *more)

        def rated(metric: str, *more: Matcher, also: str = "") -> str:
            return self._together(f"rate({at(metric, *more)}[{span}])", also)

        match self.form:
            case "rate":
                return rated(self.metric)
            case "increase":
                return self._together(f"increase({at(self.metric)}[{span}])")
            case "ratio":
                whole = rated(self.over)  # what never failed before has no series yet: nought of the whole
                return f"({rated(self.metric)} or {whole} * 0) / ({whole} > 0)"
            case "left":  # of what there is, that of which the least is left
                left, all_of_it = (self._lasting(at(metric), span) for metric in (self.metric, self.over))
                return f"min by ({by}) ({left} / ({all_of_it} > 0))"
            case "quantile":
                return f"histogram_quantile({QUANTILE}, {rated(self.metric, also='le, ')})"
            case "mean":
                base = self.metric.removesuffix("_bucket")
                return f"{rated(f'{base}_sum')} / ({rated(f'{base}_count')} > 0)"
            case "errors":
                failed = " or ".join(f"rate({at(self.metric, code)}[{span}])" for code in _FAILED)
                whole = rated(self.metric)
                return f"(sum by ({by}) ({failed}) or {whole} * 0) / ({whole} > 0)"
            case _:
                return self._together(at(self.metric) if self.parts is None else self._lasting(at(self.metric), span))

    @staticmethod
    def _lasting(rows: str, span: str) -> str:
        return f"last_over_time({rows}[{span}])"

    def _together(self, rows: str, also: str = "") -> str:
        by = f"{also}{', '.join(self.by)}"
        if self.parts is None:
            return f"sum by ({by}) ({rows})"
        if self.parts:
            rows = f"sum without ({', '.join(self.parts)}) ({rows})"
        return f"max by ({by}) ({rows})"

    @property
    def of_containers(self) -> bool:
        return self.matchers == _REAL

    def of_pods(self) -> Wanted:
        """The same of cAdvisor's rows of whole pods: all that it has where it cannot ask the container runtime."""
        return replace(self, by=("namespace", "pod"), matchers=_WHOLE)

    def scope(self, namespace: str | None) -> list[Matcher]:
        return [(self.inside, "=", quoted(namespace))] if namespace and self.inside else []


def _container(name: str, form: Form, unit: str | None = None, least: float = 0.0) -> Wanted:
    return Wanted(name, name, form, CONTAINER, unit, _REAL, parts=_PARTS, least=least)


def _node(
    name: str, metric: str, form: Form, unit: str | None = None, matchers: tuple[Matcher, ...] = (), *,
    over: str = "", parts: tuple[str, ...] = _OF_NODES, least: float | None = None,
) -> Wanted:  # fmt: skip
    """Of several devices of a kind the sum, without `parts` the largest."""
    if least is None:
        least = {"s/s": _WAITING, "cores": _CORES, "bytes/s": _WIRE, "packets/s": 1.0}.get(unit or "", 0.0)
    return Wanted(name, metric or name, form, NODE, unit, matchers, over, inside="", parts=parts, least=least)


FIXED: tuple[Wanted, ...] = (
    _container("container_cpu_usage_seconds_total", "rate", "cores", _CORES),
    _container("container_memory_working_set_bytes", "value", "bytes"),
    Wanted(
        "container_cpu_throttled_share", "container_cpu_cfs_throttled_periods_total", "ratio", CONTAINER, "share",
        _REAL, "container_cpu_cfs_periods_total", parts=_PARTS, least=_THROTTLED,
    ),
    _container("container_fs_reads_bytes_total", "rate", "bytes/s"),
    _container("container_fs_writes_bytes_total", "rate", "bytes/s"),
    _container("container_sockets", "value"),
    Wanted("container_network_receive_bytes_total", "container_network_receive_bytes_total", "rate",
           ("namespace", "pod"), "bytes/s", parts=_PARTS),
    Wanted("container_network_transmit_bytes_total", "container_network_transmit_bytes_total", "rate",
           ("namespace", "pod"), "bytes/s", parts=_PARTS),
    Wanted("kube_pod_container_status_restarts_total", "kube_pod_container_status_restarts_total", "increase",
           CONTAINER, "restarts", parts=()),
    Wanted("kube_deployment_status_replicas_unavailable", "kube_deployment_status_replicas_unavailable", "value",
           ("namespace", "deployment"), "pods", parts=()),
    Wanted("process_cpu_seconds_total", "process_cpu_seconds_total", "rate", PROGRAM, "cores", least=_CORES),
    Wanted("process_resident_memory_bytes", "process_resident_memory_bytes", "value", PROGRAM, "bytes"),
    Wanted("process_open_fds", "process_open_fds", "value", PROGRAM),
    Wanted("up", "up", "value", PROGRAM),
    Wanted("istio_requests_total", "istio_requests_total", "rate", MESH, "requests/s", _SOURCE,
           inside="destination_workload_namespace"),
    Wanted("istio_requests_total:errors", "istio_requests_total", "errors", MESH, "share", _SOURCE,
           inside="destination_workload_namespace"),
    Wanted("istio_request_duration_milliseconds:p90", "istio_request_duration_milliseconds_bucket", "quantile", MESH,
           "ms", _SOURCE, inside="destination_workload_namespace"),
    Wanted("istio_request_duration_milliseconds:mean", "istio_request_duration_milliseconds_bucket", "mean", MESH,
           "ms", _SOURCE, inside="destination_workload_namespace"),
    Wanted("traces_service_graph_request_client_seconds:p90", "traces_service_graph_request_client_seconds_bucket",
           "quantile", TRACES, "s", inside=""),
    Wanted("traces_service_graph_request_client_seconds:mean", "traces_service_graph_request_client_seconds_bucket",
           "mean", TRACES, "s", inside=""),
    Wanted("traces_service_graph_request_total", "traces_service_graph_request_total", "rate", TRACES, "requests/s",
           inside=""),
    Wanted("traces_service_graph_request_failed_share", "traces_service_graph_request_failed_total", "ratio", TRACES,
           "share", over="traces_service_graph_request_total", inside=""),
    _node("node_cpu_busy", "node_cpu_seconds_total", "rate", "cores", (("mode", "!~", quoted("idle|iowait|steal")),)),
    _node("node_cpu_stolen", "node_cpu_seconds_total", "rate", "cores", (("mode", "=", quoted("steal")),)),
    _node("node_pressure_cpu_waiting_seconds_total", "", "rate", "s/s"),
    _node("node_procs_running", "", "value"),
    _node("node_memory_MemAvailable_bytes", "", "value", "bytes"),
    _node("node_pressure_memory_waiting_seconds_total", "", "rate", "s/s"),
    _node("node_disk_io_time_seconds_total", "", "rate", "s/s", _DISKS, parts=(), least=_WORKING),
    _node("node_pressure_io_waiting_seconds_total", "", "rate", "s/s"),
    _node("node_filesystem_avail_share", "node_filesystem_avail_bytes", "left", "share", _FILESYSTEMS,
          over="node_filesystem_size_bytes"),
    _node("node_network_receive_bytes_total", "", "rate", "bytes/s", _WIRES),
    _node("node_network_transmit_bytes_total", "", "rate", "bytes/s", _WIRES),
    _node("node_network_receive_drop_total", "", "rate", "packets/s", _WIRES),
)  # fmt: skip
"""With every installation that has them."""

NO_KINDS: Mapping[str, Kind] = {}
_KNOWN = {wanted.metric for wanted in FIXED}
_DURATION = ("_duration_seconds_bucket", "_latency_seconds_bucket", "_duration_milliseconds_bucket",
             "_server_requests_seconds_bucket", "_request_seconds_bucket", "_response_time_seconds_bucket")  # fmt: skip
OF_HISTOGRAMS = ("_bucket", "_count", "_sum")
"""What only histograms and summaries are called like: nothing needs to be asked of them."""
_REQUESTS = ("_requests_total", "_handled_total", "_request_duration_seconds_count")
_FAILURES = ("_errors_total", "_failures_total", "_failed_total", "_timeouts_total")
_DEPTHS = ("_queue_length", "_queue_depth", "_connections_active", "_in_flight_requests", "_requests_in_flight")
_OF_SYSTEMS = ("container_", "kube_", "kubelet_", "apiserver_", "node_", "istio_", "traces_", "prometheus_", "go_",
               "process_", "etcd_", "scheduler_", "workqueue_", "rest_client_", "storage_operation_",
               "net_conntrack_", "scrape_", "promhttp_")  # fmt: skip
FORMS = f"[a-zA-Z_:][a-zA-Z0-9_:]*({'|'.join((*_DURATION, *_REQUESTS, *_FAILURES, *_DEPTHS))})"
"""A regular expression of the names that `of_program` knows how to read."""


def of_program(metric: str, have: Set[str], kinds: Mapping[str, Kind] = NO_KINDS) -> list[Wanted]:
    """What to ask of a program's own metric: a rate of a counter by `kinds`, else by the form of its name. Nothing of
    what the platform measures itself, and nothing that another metric of `have` tells already."""
    if metric.startswith(_OF_SYSTEMS) or metric in _KNOWN:
        return []
    if metric.endswith("_count") and any(name.endswith("_requests_total") for name in have):
        return []
    if metric.endswith(_DURATION):
        return histogram(metric)
    kind = kinds.get(metric)
    if metric.endswith(_REQUESTS) and kind is not Kind.GAUGE:
        return [
            Wanted(metric, metric, "rate", PROGRAM, "requests/s"),
            Wanted(f"{metric}:errors", metric, "errors", PROGRAM, "share"),
        ]
    if kind is Kind.COUNTER or (metric.endswith(_FAILURES) and kind is not Kind.GAUGE):
        return [Wanted(metric, metric, "rate", PROGRAM, "1/s")]
    return [Wanted(metric, metric, "value", PROGRAM)]


def histogram(metric: str) -> list[Wanted]:
    """Quantile and mean of a histogram by the name of its buckets. The mean shows what stays inside one bucket."""
    base = metric.removesuffix("_bucket")
    unit = "ms" if "milliseconds" in base else "s" if base.endswith("seconds") else None
    least = {"ms": 1e3 * _SECONDS, "s": _SECONDS}.get(unit or "", 0.0)
    return [
        Wanted(f"{base}:p90", metric, "quantile", PROGRAM, unit, least=least),
        Wanted(f"{base}:mean", metric, "mean", PROGRAM, unit, least=least),
    ]


def names_of(fixed: tuple[Wanted, ...], form: str = "") -> str:
    """A PromQL string that matches the metrics' names, and those of a form."""
    known = one_of(list(dict.fromkeys(wanted.metric for wanted in fixed)))
    return f'{known[:-1]}|{form}"' if form else known
