"""For each cause the one question, and why a person must answer it: what is missing is not in the cluster, or it is
not the gate's to change. Shown when no action fits. `{name}` is the object, `{what}` the object with its kind."""

from __future__ import annotations

from dataclasses import dataclass

from incidents.models import Cause, CauseClass


@dataclass(frozen=True)
class Ask:
    question: str
    why: str


PEOPLE: dict[CauseClass, Ask] = {
    CauseClass.EXTERNAL_SIGNAL: Ask("Who ends {name} by a signal?", "The sender is outside of what the cluster keeps."),
    CauseClass.OOM_KILLED: Ask(
        "How much memory does {container} need?", "Nothing that was observed says how much; a leak takes any limit."
    ),
    CauseClass.WRONG_LIVENESS_PROBE: Ask(
        "What should the liveness probe of {container} ask?", "Where the program answers was not observed."
    ),
    CauseClass.WRONG_READINESS_PROBE: Ask(
        "What should the readiness probe of {container} ask?", "Where the program answers was not observed."
    ),
    CauseClass.WRONG_STARTUP_PROBE: Ask(
        "How long may {container} take to start?", "It never started while it was watched."
    ),
    CauseClass.BAD_IMAGE: Ask(
        "Which image should {container} run?",
        "The registry does not have the one that is named, and no earlier one ran.",
    ),
    CauseClass.MISSING_PULL_SECRET: Ask(
        "Which pull secret may {name} use?", "Credentials are not made up, and no Secret here is known to fit."
    ),
    CauseClass.MISSING_CONFIG_MAP: Ask(
        "What should be in the ConfigMap that {name} refers to?", "Its content is not in the cluster."
    ),
    CauseClass.MISSING_CONFIG_KEY: Ask(
        "Which value should the missing key have, or which key is meant?", "No key that exists is clearly the one."
    ),
    CauseClass.MISSING_SECRET: Ask(
        "What should be in the Secret that {name} refers to?", "Secrets are created by people who hold them."
    ),
    CauseClass.BAD_COMMAND: Ask(
        "Which command should {container} run?",
        "The image has no such program, and which it has is not in the cluster.",
    ),
    CauseClass.UNSCHEDULABLE: Ask(
        "What may {name} ask of a node?", "The scheduler names no single request that could be changed."
    ),
    CauseClass.QUOTA_EXCEEDED: Ask(
        "May the quota be raised, or what may be removed?", "A quota is a decision about sharing, not a fault."
    ),
    CauseClass.APPLICATION_ERROR: Ask(
        "What does the program need to go on?", "It ends by itself; its owners know what its last words mean."
    ),
    CauseClass.DEPENDENCY_UNAVAILABLE: Ask(
        "Why is the dependency of {name} down?", "{what} is its victim; a change of it repairs nothing."
    ),
    CauseClass.BAD_ROLLOUT: Ask(
        "Which change of {what} was wrong?", "No earlier revision is kept that is known to have run."
    ),
    CauseClass.EVICTED: Ask("What uses up the node, and may it?", "An eviction is the node's defence; it comes again."),
    CauseClass.NODE_LOST: Ask(
        "What happened to the node?", "The cluster keeps new pods off by itself; the machine is out of its reach."
    ),
    CauseClass.LIMIT_RANGE_VIOLATED: Ask(
        "How much should {name} ask for within the limit range?", "Bounds are known, what the program needs is not."
    ),
    CauseClass.MISSING_SERVICE_ACCOUNT: Ask(
        "Which service account should {name} run as?", "An account carries rights: giving rights is for people."
    ),
    CauseClass.POD_SECURITY_DENIED: Ask(
        "Can {name} run with fewer rights?",
        "Loosening a security policy is for people, and so is changing the program.",
    ),
    CauseClass.WEBHOOK_DENIED: Ask(
        "Which rule of the webhook does {name} break?", "An admission policy is a decision of its owners."
    ),
    CauseClass.WEBHOOK_UNAVAILABLE: Ask(
        "Why does the webhook's server not answer?",
        "Its configuration guards the cluster; it is not switched off here.",
    ),
    CauseClass.RBAC_DENIED: Ask(
        "May the account of {name} do what it asks for?", "Granting rights is never done by the gate."
    ),
    CauseClass.INSUFFICIENT_RESOURCES: Ask(
        "Can {name} do with less{asked}, or can nodes be added?",
        "What it needs was not observed; a guess would starve it.",
    ),
    CauseClass.NODE_SELECTOR_MISMATCH: Ask(
        "Which nodes is {name} meant for?", "No node has these labels, and no single other value is clearly meant."
    ),
    CauseClass.AFFINITY_UNSATISFIABLE: Ask(
        "Which of the affinity rules of {name} may be given up?",
        "Rules say how pods may fail together; people weigh that.",
    ),
    CauseClass.UNTOLERATED_TAINT: Ask(
        "Is {name} meant to run on the tainted nodes?", "A taint keeps pods off on purpose, and which one is not known."
    ),
    CauseClass.NODE_CORDONED: Ask("Why was the node cordoned, and is that over?", "The reason is not in the cluster."),
    CauseClass.TOPOLOGY_SPREAD_UNSATISFIABLE: Ask(
        "May the pods of {name} be spread less evenly?", "The rule says how many may fail together; people weigh that."
    ),
    CauseClass.VOLUME_ZONE_CONFLICT: Ask(
        "Which zone should the data of {name} be in?", "A volume cannot move; a copy of its data is for people."
    ),
    CauseClass.MISSING_CLAIM: Ask(
        "Which claim holds the data of {name}?", "A new claim would be empty: whether that is right is not known."
    ),
    CauseClass.MISSING_STORAGE_CLASS: Ask(
        "Which storage class should the claim have?",
        "The class of a claim cannot be changed, only the claim be made anew.",
    ),
    CauseClass.VOLUME_NOT_PROVISIONED: Ask(
        "Why does the provisioner make no volume?", "The storage behind it is outside of the cluster."
    ),
    CauseClass.VOLUME_MISMATCH: Ask(
        "Which volume should the claim be bound to?",
        "A claim cannot be changed, and data is never rebound by the gate.",
    ),
    CauseClass.SCHEDULER_DOWN: Ask(
        "Why does the scheduler not run?", "Components of the control plane are not changed through the API."
    ),
    CauseClass.REGISTRY_UNREACHABLE: Ask(
        "Why does the registry not answer the node?", "Network and registry are outside of the cluster; it may pass."
    ),
    CauseClass.REGISTRY_RATE_LIMITED: Ask(
        "Which account or mirror may images be pulled with?", "The registry's limit passes; an account is for people."
    ),
    CauseClass.MOUNT_FAILED: Ask(
        "What does the volume of {name} need to be mounted?",
        "Servers, keys and devices behind it are not in the cluster.",
    ),
    CauseClass.PERMISSION_DENIED: Ask(
        "Which user should {container} run as, or who should own its files?",
        "Rights of files are a decision about trust.",
    ),
    CauseClass.PORT_CONFLICT: Ask(
        "Which of the two should keep the port?", "Which port the program can take instead is not in the cluster."
    ),
    CauseClass.ZERO_REPLICAS: Ask(
        "How many replicas should {what} have?", "It is scaled to zero; how many it should have is not in the cluster."
    ),
    CauseClass.WRONG_CREDENTIALS: Ask(
        "Which credentials should {name} use?", "Secrets are never read or written; who holds them has to correct them."
    ),
    CauseClass.WRONG_DEPENDENCY_ADDRESS: Ask(
        "Which address should {name} use?", "No Service that exists is clearly the one that is meant."
    ),
    CauseClass.DATABASE_READ_ONLY: Ask(
        "Should the database be writable?",
        "A database protects itself (a replica, a full disk); forcing it loses data.",
    ),
    CauseClass.CONNECTIONS_EXHAUSTED: Ask(
        "Who holds the connections?", "More connections or a restart hide a leak; pools are set in the programs."
    ),
    CauseClass.DISK_FULL: Ask(
        "What may be deleted, or can the volume grow?",
        "Data is never deleted by the gate, and a volume never shrinks again.",
    ),
    CauseClass.TOO_MANY_OPEN_FILES: Ask(
        "Does {name} leak descriptors, or is its limit too low?", "The limit is set on the node or in the image."
    ),
    CauseClass.CPU_THROTTLED: Ask("How much CPU does {container} need?", "Nothing that was observed says how much."),
    CauseClass.SERVICE_SELECTOR_MISMATCH: Ask(
        "Which workload is {what} for?", "More than one could be meant, or none is there."
    ),
    CauseClass.SERVICE_WRONG_TARGET_PORT: Ask(
        "Which port of its pods should {what} lead to?", "They declare none, or more than one could be meant."
    ),
    CauseClass.SERVICE_WRONG_PROTOCOL: Ask(
        "Which protocol do the pods behind {what} speak?", "What was observed does not tell which side is wrong."
    ),
    CauseClass.SERVICE_WITHOUT_ENDPOINTS: Ask(
        "Which pods should be behind {what}?", "None is ready, or none is selected on purpose."
    ),
    CauseClass.HEADLESS_SERVICE_MISUSED: Ask(
        "Should {what} have an address of its own, or should callers use the pods' port?",
        "A Service cannot become headless, or stop being so, without being made anew; callers are others' workloads.",
    ),
    CauseClass.BACKEND_MISSING: Ask(
        "Which Service should {what} lead to?", "A route decides who may be reached from outside: people decide that."
    ),
    CauseClass.NETWORK_POLICY_BLOCKS: Ask(
        "Should this connection be allowed?", "A NetworkPolicy is a decision about trust; the gate never loosens one."
    ),
    CauseClass.CLUSTER_DNS_DOWN: Ask(
        "Why does the cluster's DNS not answer?", "It is in a protected namespace, and everything hangs on it."
    ),
    CauseClass.KUBELET_DOWN: Ask(
        "Why does the kubelet of the node not run?",
        "The node cannot be reached through the API; new pods are kept off it.",
    ),
    CauseClass.CONTAINER_RUNTIME_DOWN: Ask(
        "Why does the container runtime of the node not run?", "It is a service of the node, outside of the API."
    ),
    CauseClass.KUBE_PROXY_DOWN: Ask("Why does kube-proxy not run on the node?", "It is in a protected namespace."),
    CauseClass.CONTROLLER_MANAGER_DOWN: Ask(
        "Why does the controller manager not run?", "Components of the control plane are not changed through the API."
    ),
    CauseClass.NODE_DISK_PRESSURE: Ask(
        "What fills the disk of the node?",
        "Files of a node are out of reach; the cluster keeps new pods off by itself.",
    ),
    CauseClass.NODE_MEMORY_PRESSURE: Ask(
        "What uses up the memory of the node?", "Which pod may be ended is a decision; new pods are kept off already."
    ),
    CauseClass.NODE_PID_PRESSURE: Ask(
        "What makes so many processes on the node?",
        "Which pod may be ended is a decision; new pods are kept off already.",
    ),
    CauseClass.NETWORK_DEGRADED: Ask("What is wrong with the network?", "It is below the cluster."),
    CauseClass.ROLLOUT_STUCK: Ask(
        "What does the rollout of {name} wait for?", "Nothing that was observed says which change would let it go on."
    ),
    CauseClass.JOB_BACKOFF: Ask(
        "May the Job {name} run again, and with what corrected?",
        "The template of a Job cannot be changed, and whether its work may be done twice is not in the cluster.",
    ),
    CauseClass.CRON_JOB_SUSPENDED: Ask("Should {name} run again?", "Who suspended it, and why, is not in the cluster."),
    CauseClass.CRON_JOB_NEVER_SCHEDULED: Ask(
        "When should {name} run?",
        "Its schedule never comes, or its runs are missed; the time that is meant is not known.",
    ),
    CauseClass.STATEFUL_SET_BLOCKED: Ask(
        "What does the pod that {name} waits for need?", "The order is on purpose; the pod before has to become ready."
    ),
    CauseClass.DAEMON_SET_SKIPS_NODES: Ask(
        "Should {name} run on these nodes too?", "Nodes are left out by labels or taints, which people set on purpose."
    ),
    CauseClass.DISRUPTION_BUDGET_BLOCKS: Ask(
        "May fewer pods of {name} be up for a while?",
        "The budget is a promise of availability; its owners may break it.",
    ),
    CauseClass.AUTOSCALER_WITHOUT_METRICS: Ask(
        "Why are there no metrics for {name}?",
        "The metrics server, or the pods' missing requests, are to be mended first.",
    ),
    CauseClass.FINALIZER_STUCK: Ask(
        "Was what the finalizer waits for cleaned up?",
        "A finalizer guards something outside of the object: the gate never removes it, or that is lost for good.",
    ),
    CauseClass.CHANGE_UNDONE: Ask(
        "Who changes {what} back?",
        "As long as another actor writes it too, a repair does not last: stop that one first.",
    ),
    CauseClass.BAD_CHANGE: Ask(
        "What was the value before the change?", "The cluster keeps no earlier ConfigMaps and Secrets."
    ),
    CauseClass.UNKNOWN: Ask("What should be looked at next?", "No cause was found, so nothing is changed."),
}
"""Every class but the faults of code, which are reported to their owners."""


def ask(cause: Cause) -> tuple[str, str]:
    """(the question, why a person must answer it) for a cause, whatever facts it has."""
    entry, ref = PEOPLE[cause.cause_class], cause.object
    values = {"name": ref.name, "what": f"{ref.kind} {ref.name}", "container": ref.container or ref.name}
    amount, resource = cause.facts.get("requested"), cause.facts.get("resource")
    if place := cause.facts.get("secret_address"):
        host = f"{cause.facts.get('dependency')}"
        return (
            f"Is {host} what {place} should hold?",
            f"{host} is no Service or pod here, and values of Secrets are never read: only people can compare them.",
        )
    values["asked"] = f" than {amount} of {resource}" if amount and resource else ""
    return entry.question.format_map(values), entry.why.format_map(values)
