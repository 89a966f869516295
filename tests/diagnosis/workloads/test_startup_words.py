"""What runtimes, kubelets and registries say of images, mounts, commands and permissions, and how it is told apart.

Messages of other versions and products than the development cluster's are put into real captured objects (`saying`).
"""

# ruff: noqa: E501 (messages as they are)
from __future__ import annotations

import copy
from functools import cache
from pathlib import Path

import pytest

from diagnosis.workloads.diagnose import diagnose
from diagnosis.workloads.load import load_snapshot
from diagnosis.workloads.snapshot import Snapshot
from incidents.models import Cause, CauseClass

SNAPSHOTS = Path(__file__).parents[2] / "fixtures" / "snapshots"


@cache
def loaded(name: str) -> Snapshot:
    return load_snapshot(SNAPSHOTS / name)


def saying(name: str, message: str, reason: str = "Failed") -> Snapshot:
    """The captured case with the telling events' and waiting messages replaced: transformed, not captured so."""
    original = loaded(name)
    items = copy.deepcopy(original.items())
    for item in items:
        if item["kind"] == "Event" and item["reason"] == reason and len(item["message"]) > 40:
            item["message"] = message
        if item["kind"] == "Pod":
            for status in item["status"].get("containerStatuses", []):
                waiting = status.get("state", {}).get("waiting", {})
                if len(waiting.get("message", "")) > 40:
                    waiting["message"] = message
                for state in ("state", "lastState"):
                    if len(status.get(state, {}).get("terminated", {}).get("message", "")) > 40:
                        status[state]["terminated"]["message"] = message
    return Snapshot(items, observed_at=original.observed_at, complete=original.complete, absent=original.absent)


def first(name: str, message: str, reason: str = "Failed") -> Cause:
    return diagnose(saying(name, message, reason)).causes[0]


HEAD = 'Failed to pull image "registry.shop.example/team/shop:1": rpc error: code = Unknown desc = '
RESOLVE = HEAD + 'failed to pull and unpack image "registry.shop.example/team/shop:1": failed to resolve reference: '


@pytest.mark.parametrize(
    ("message", "cause", "problem"),
    [
        # containerd
        (RESOLVE + "unexpected status code [manifests 1]: 429 Too Many Requests", "registry_rate_limited", "rate_limited"),
        (RESOLVE + "failed to copy: httpReadSeeker: failed open: unexpected status code https://registry-1.docker.io/"
         "v2/library/x/blobs: 429 Too Many Requests - Server message: toomanyrequests: You have reached your pull rate"
         " limit.", "registry_rate_limited", "rate_limited"),
        (RESOLVE + 'failed to do request: Head "https://registry.shop.example/v2/team/shop/manifests/1": dial tcp: lookup'
         " registry.shop.example: no such host", "registry_unreachable", "unresolved"),
        (RESOLVE + 'failed to do request: Head "https://10.0.0.9/v2/": dial tcp 10.0.0.9:443: i/o timeout',
         "registry_unreachable", "registry_unreachable"),
        (RESOLVE + 'failed to do request: Head "https://10.0.0.9/v2/": dial tcp 10.0.0.9:443: connect: connection refused',
         "registry_unreachable", "registry_unreachable"),
        (RESOLVE + 'failed to do request: Head "https://10.0.0.9/v2/": x509: certificate signed by unknown authority',
         "registry_unreachable", "certificate"),
        (RESOLVE + 'failed to do request: Head "https://10.0.0.9:5000/v2/": http: server gave HTTP response to HTTPS '
         "client", "registry_unreachable", "certificate"),
        (RESOLVE + "unexpected status code [manifests 1]: 503 Service Unavailable", "registry_unreachable",
         "registry_unreachable"),
        (RESOLVE + "registry.shop.example/team/shop:1: not found", "bad_image", "tag"),
        (HEAD + "no match for platform in manifest: not found", "bad_image", "platform"),
        # dockershim and CRI-O
        (HEAD + "Error response from daemon: manifest for registry.shop.example/team/shop:1 not found: "
        "manifest unknown",
         "bad_image", "tag"),
        (HEAD + "Error response from daemon: toomanyrequests: You have reached your pull rate limit.",
         "registry_rate_limited", "rate_limited"),
        (HEAD + "Error response from daemon: Get https://registry.shop.example/v2/: dial tcp: lookup "
        "registry.shop.example "
         "on 10.96.0.10:53: server misbehaving", "registry_unreachable", "unresolved"),
        (HEAD + "reading manifest 1 in registry.shop.example/team/shop: name unknown: repository not found", "bad_image",
         "tag"),
        (HEAD + "initializing source docker://registry.shop.example/team/shop:1: pinging container registry: Get "
         '"https://registry.shop.example/v2/": net/http: TLS handshake timeout', "registry_unreachable",
         "registry_unreachable"),
    ],
)  # fmt: skip
def test_pull_failures_are_told_apart(message: str, cause: str, problem: str) -> None:
    found = first("bad_image_tag", message)
    assert (found.cause_class.value, found.facts["problem"]) == (cause, problem)
    assert found.object.container


@pytest.mark.parametrize(
    "message",
    [
        RESOLVE + "pull access denied, repository does not exist or may require authorization: server message: "
        "insufficient_scope: authorization failed",
        HEAD + "Error response from daemon: pull access denied for team/shop, repository does not exist or may require "
        "'docker login': denied: requested access to the resource is denied",
        RESOLVE + "failed to authorize: failed to fetch oauth token: unexpected status: 401 Unauthorized",
        HEAD + "unable to retrieve auth token: invalid username/password: unauthorized: incorrect username or password",
    ],
)
def test_refusals_ask_for_a_pull_secret(message: str) -> None:
    refused = first("pull_secret_refused", message)
    assert refused.cause_class is CauseClass.MISSING_PULL_SECRET
    assert refused.facts["pull_secrets"]
    missing = first("missing_pull_secret", message)
    assert missing.facts["missing_secrets"]
    assert missing.confidence > refused.confidence


@pytest.mark.parametrize(
    ("message", "problem"),
    [
        ('MountVolume.MountDevice failed for volume "data" : mount failed: exit status 32\nMounting command: mount\n'
         "Output: mount: /var/lib/kubelet/x: wrong fs type, bad option, bad superblock on /dev/sdb", "file_system"),
        ('MountVolume.SetUp failed for volume "data" : mount failed: exit status 32\nOutput: mount.nfs: access denied by'
         " server while mounting 10.0.0.5:/exports", "denied"),
        ('MountVolume.SetUp failed for volume "data" : mount failed: exit status 32\nOutput: mount.nfs: Connection timed'
         " out", "unreachable"),
        ('MountVolume.SetUp failed for volume "data" : hostPath type check failed: /srv/x is not a file',
         "host_path_type"),
        ('Multi-Attach error for volume "data" Volume is already exclusively attached to one node and can\'t be attached '
         "to another", "multi_attach"),
        ('MountVolume.MountDevice failed for volume "data" : kubernetes.io/csi: attacher.MountDevice failed to create '
         "newCsiDriverClient: driver name ebs.csi.aws.com not found in the list of registered CSI drivers", "driver"),
        ('AttachVolume.Attach failed for volume "data" : rpc error: code = Internal desc = Could not attach volume',
         "attach"),
        ('MountVolume.NewMounter initialization failed for volume "data" : path "/srv/x" does not exist', "path"),
    ],
)  # fmt: skip
def test_mount_failures_are_told_apart(message: str, problem: str) -> None:
    found = first("mount_host_path_type", message, "FailedMount")
    assert found.cause_class is CauseClass.MOUNT_FAILED
    assert (found.facts["problem"], found.facts["volume"]) == (problem, "data")


def test_a_mount_without_its_secret_is_a_matter_of_the_secret() -> None:
    message = 'MountVolume.SetUp failed for volume "data" : secret "sec-x" not found'
    found = diagnose(saying("mount_host_path_type", message, "FailedMount"))
    assert [cause.cause_class for cause in found.causes] == [CauseClass.MISSING_SECRET]


def test_waiting_for_volumes_without_a_word_why_is_no_cause() -> None:
    message = "Unable to attach or mount volumes: unmounted volumes=[data], unattached volumes=[data]: timed out"
    found = diagnose(saying("mount_host_path_type", message, "FailedMount"))
    assert [cause.cause_class for cause in found.causes] == [CauseClass.UNKNOWN]


RUNC = (
    "failed to create containerd task: OCI runtime create failed: container_linux.go:370: starting container process "
)


@pytest.mark.parametrize(
    ("message", "problem"),
    [
        (RUNC + 'caused: exec: "serve": executable file not found in $PATH: unknown', "not_found"),
        (RUNC + 'caused: exec: "/app/run": permission denied: unknown', "not_executable"),
        (RUNC + 'caused: exec: "/app": is a directory: permission denied', "not_executable"),
        (RUNC + 'caused: chdir to cwd ("/work") set in config.json failed: no such file or directory: unknown',
         "working_directory"),
        (RUNC + 'caused: exec: "/app/run": exec format error: unknown', "architecture"),
    ],
)  # fmt: skip
def test_commands_that_do_not_run_are_told_apart(message: str, problem: str) -> None:
    found = first("bad_command_missing", message)
    assert (found.cause_class, found.facts["problem"]) == (CauseClass.BAD_COMMAND, problem)


@pytest.mark.parametrize(
    "message",
    [
        RUNC
        + 'caused: process_linux.go:459: container init caused: rootfs_linux.go:59: mounting "/srv/x" to rootfs at '
        '"/etc/passwd/x" caused: not a directory: error mounting "/srv/x"',
        RUNC
        + 'caused: error mounting "/srv/x" to rootfs at "/etc/x": not a directory: unknown: Are you trying to mount a '
        "directory onto a file (or vice-versa)?",
    ],
)
def test_a_mount_that_the_runtime_cannot_make_is_not_the_commands_fault(message: str) -> None:
    assert first("bad_command_missing", message).cause_class is CauseClass.MOUNT_FAILED


@pytest.mark.parametrize(
    "message",
    [
        'container has runAsNonRoot and image has non-numeric user (shop), cannot verify user is non-root (pod: "p")',
        "Error: container's runAsUser breaks non-root policy (pod: p, container: shop)",
    ],
)
def test_users_that_may_not_be(message: str) -> None:
    found = first("permission_root", message)
    assert (found.cause_class, found.facts["problem"]) == (CauseClass.PERMISSION_DENIED, "run_as_non_root")


def test_a_user_that_the_image_does_not_have() -> None:
    found = first("bad_command_missing", RUNC + "caused: unable to find user shop: no matching entries in passwd file")
    assert (found.cause_class, found.facts["problem"]) == (CauseClass.PERMISSION_DENIED, "security_context")


def asking_by_grpc(message: str) -> Snapshot:
    """A captured failing readiness probe turned into a gRPC probe: the development cluster is too old for them."""
    snapshot = saying("readiness_wrong_path", f"Readiness probe failed: {message}", "Unhealthy")
    items = copy.deepcopy(snapshot.items())
    for item in items:
        if item["kind"] == "Pod":
            probe = item["spec"]["containers"][1]["readinessProbe"]
            probe.pop("httpGet")
            probe["grpc"] = {"port": 8080, "service": "shop"}
            item["spec"]["containers"][1].pop("livenessProbe", None)
    return Snapshot(items, observed_at=snapshot.observed_at)


@pytest.mark.parametrize(
    ("message", "field", "observed"),
    [
        ("error: this server does not implement the grpc health protocol (grpc.health.v1.Health): unknown service grpc.health.v1.Health", "handler", "grpc"),
        ("error: health rpc probe failed: rpc error: code = NotFound desc = unknown service", "service", "shop"),
        ('error: failed to connect service at "10.244.0.7:8080": connection error: desc = "error reading server preface: http2: failed reading the frame payload: http2: frame too large, note that the frame header looked like an HTTP/1.1 header"', "handler", "grpc"),
    ],
)  # fmt: skip
def test_grpc_probes_that_ask_wrongly(message: str, field: str, observed: str) -> None:
    found = diagnose(asking_by_grpc(message)).causes[0]
    assert found.cause_class is CauseClass.WRONG_READINESS_PROBE
    assert (found.facts["field"], found.facts["observed"]) == (field, observed)


def test_a_grpc_program_that_calls_itself_unhealthy_has_no_wrong_probe() -> None:
    found = diagnose(asking_by_grpc('service unhealthy (responded with "NOT_SERVING")'))
    assert CauseClass.WRONG_READINESS_PROBE not in {cause.cause_class for cause in found.causes}


def test_a_missing_probe_command_is_named() -> None:
    found = diagnose(loaded("probe_command_missing")).causes[0]
    assert found.facts["observed"] == "/app/check-health"


@pytest.mark.parametrize(
    ("message", "facts"),
    [
        ('Usage of EmptyDir volume "scratch" exceeds the limit "2Mi". ', {"volume": "scratch", "limit": "2Mi"}),
        ('Container shop exceeded its local ephemeral storage limit "10Mi". ', {"container": "shop", "limit": "10Mi"}),
        ("Pod ephemeral local storage usage exceeds the total limit of containers 1Gi. ", {"limit": "1Gi"}),
    ],
)
def test_storage_that_got_a_pod_evicted(message: str, facts: dict[str, str]) -> None:
    items = copy.deepcopy(loaded("evicted").items())
    for item in items:
        if item["kind"] == "Pod":
            item["status"]["message"] = message
    cause = diagnose(Snapshot(items, observed_at=loaded("evicted").observed_at)).causes[0]
    assert cause.cause_class is CauseClass.EVICTED
    assert {key: cause.facts.get(key) for key in facts} == facts
    assert cause.facts["resource"] == "ephemeral-storage"
