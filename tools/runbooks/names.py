"""How people call a class of causes in headings and sentences, beyond its id and its label."""

from __future__ import annotations

import re

from incidents.models import CauseClass
from tools.feishu.texts import LANGUAGES, text
from tools.runbooks.words import is_wide

_ALSO: dict[str, tuple[str, ...]] = {
    "null_dereference": ("null pointer", "nullptr", "空指针"),
    "wild_pointer": ("use after free", "dangling pointer", "悬空指针"),
    "heap_corruption": ("double free", "heap overflow", "堆溢出"),
    "uncaught_exception": ("unhandled exception", "异常未捕获"),
    "native_crash": ("segmentation fault", "SIGSEGV", "core dump", "段错误", "核心转储"),
    "oom_killed": ("OOMKilled", "OOM", "out of memory", "内存溢出", "内存超限", "内存泄漏"),
    "wrong_liveness_probe": ("liveness probe", "livenessProbe", "存活探针", "存活检查"),
    "wrong_readiness_probe": ("readiness probe", "readinessProbe", "就绪探针", "就绪检查"),
    "wrong_startup_probe": ("startup probe", "startupProbe", "启动探针"),
    "bad_image": ("ImagePullBackOff", "ErrImagePull", "InvalidImageName", "镜像拉取失败", "镜像不存在"),
    "missing_pull_secret": ("imagePullSecrets", "ImagePullBackOff", "pull credentials", "拉取凭据", "镜像凭据"),
    "missing_config_map": ("CreateContainerConfigError", "ConfigMap not found"),
    "missing_config_key": ("CreateContainerConfigError",),
    "missing_secret": ("CreateContainerConfigError", "Secret not found"),
    "bad_command": ("RunContainerError", "exec format error", "executable file not found", "启动命令"),
    "unschedulable": ("FailedScheduling", "Pending pods", "调度失败"),
    "quota_exceeded": ("ResourceQuota", "exceeded quota", "quota", "配额不足", "配额"),
    "dependency_unavailable": ("connection refused", "依赖服务不可用", "依赖故障", "连接被拒绝"),
    "bad_rollout": ("rollback", "回滚", "发布失败", "发布回滚"),
    "evicted": ("eviction", "驱逐"),
    "node_lost": ("NodeNotReady", "node not ready", "节点不可用", "节点宕机"),
    "rbac_denied": ("RBAC", "forbidden", "权限不足"),
    "webhook_unavailable": ("admission webhook", "准入控制"),
    "webhook_denied": ("admission webhook", "准入控制"),
    "insufficient_resources": ("insufficient cpu", "insufficient memory", "capacity", "资源不足", "扩容节点"),
    "untolerated_taint": ("taint", "toleration", "污点", "容忍"),
    "node_cordoned": ("cordon", "SchedulingDisabled"),
    "missing_claim": ("PVC",),
    "missing_storage_class": ("StorageClass",),
    "volume_not_provisioned": ("PVC pending", "provisioner", "存储卷"),
    "volume_mismatch": ("PVC pending",),
    "registry_unreachable": ("registry down", "镜像仓库"),
    "registry_rate_limited": ("toomanyrequests", "pull rate limit"),
    "mount_failed": ("FailedMount", "FailedAttachVolume", "挂载"),
    "port_conflict": ("address already in use", "EADDRINUSE", "端口冲突"),
    "wrong_credentials": ("authentication failed", "password rotation", "认证失败", "密码轮换", "密码错误"),
    "wrong_dependency_address": ("no such host", "unknown host", "域名解析失败"),
    "database_read_only": ("read only transaction", "read-only replica", "failover", "主从切换"),
    "connections_exhausted": ("too many connections", "connection pool", "max_connections", "连接池", "连接数"),
    "disk_full": ("no space left", "ENOSPC", "磁盘满", "磁盘空间", "磁盘空间不足", "磁盘清理"),
    "too_many_open_files": ("EMFILE", "file descriptors", "ulimit", "文件描述符", "句柄泄漏", "句柄数"),
    "cpu_throttled": ("CPU throttling", "CFS quota", "CPU 限流"),
    "service_without_endpoints": ("no endpoints", "503", "无端点"),
    "network_policy_blocks": ("NetworkPolicy", "网络策略"),
    "cluster_dns_down": ("CoreDNS", "kube-dns", "DNS"),
    "node_disk_pressure": ("DiskPressure", "磁盘压力"),
    "node_memory_pressure": ("MemoryPressure", "内存压力"),
    "node_pid_pressure": ("PIDPressure",),
    "network_degraded": ("packet loss", "latency", "丢包", "网络延迟"),
    "rollout_stuck": ("ProgressDeadlineExceeded", "发布卡住"),
    "job_backoff": ("BackoffLimitExceeded",),
    "disruption_budget_blocks": ("PDB", "PodDisruptionBudget"),
    "autoscaler_without_metrics": ("HPA", "metrics-server", "FailedGetResourceMetric"),
    "finalizer_stuck": ("Terminating namespace", "finalizer"),
}

_VAGUE = {
    "application error",
    "应用错误",
    "bad rollout",
    "发布有问题",
    "bad change",
    "a change broke it",
    "变更引起故障",
}
"""Said of everything that fails."""


def names_of(cause: CauseClass) -> list[str]:
    """The id, the English and Chinese label (what stands in brackets apart), and other names. None of `unknown`."""
    if cause is CauseClass.UNKNOWN:
        return []
    found = [cause.value.replace("_", " ")]
    for language in LANGUAGES:
        label = text(language, f"cause.{cause.value}")
        found += [part for part in re.split(r"\s*[()（）]\s*", label) if part]
    return list(dict.fromkeys([*found, *_ALSO.get(cause.value, ())]))


def is_distinctive(name: str) -> bool:
    """Whether a name tells its subject wherever it stands. Others ("abort", "quota") do so only in a heading."""
    if name in _VAGUE or len(name) < 4:
        return False
    if is_wide(name):
        return len(re.findall(r"\w", name)) >= 4
    return " " in name or "-" in name or any(character.isupper() for character in name[1:])
