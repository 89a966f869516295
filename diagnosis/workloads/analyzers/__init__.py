"""The analyzers, in the order in which they are asked. A new one is a module here and a line in `ANALYZERS`."""

from __future__ import annotations

from diagnosis.workloads.analyzers import (
    admission,
    application_error,
    bad_command,
    bad_image,
    bad_rollout,
    dependency_unavailable,
    evicted,
    limit_range_violated,
    missing_config,
    native_crash,
    node_lost,
    oom_killed,
    quota_exceeded,
    rbac_denied,
    service_port,
    service_selector,
    unschedulable,
    wrong_address,
    wrong_probe,
)
from diagnosis.workloads.contract import Analyzer

ANALYZERS: tuple[Analyzer, ...] = (
    native_crash,
    oom_killed,
    bad_image,
    missing_config,
    bad_command,
    wrong_probe,
    unschedulable,
    quota_exceeded,
    limit_range_violated,
    admission,
    rbac_denied,
    evicted,
    node_lost,
    service_selector,
    service_port,
    wrong_address,
    dependency_unavailable,
    application_error,
    bad_rollout,
)
