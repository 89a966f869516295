"""What is told to Slack and WeCom about an incident, and which channels want to hear it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import PurePosixPath

from pydantic import ValidationError
from sqlalchemy import func, select

from errors import InvalidInput
from incidents.collected import CollectedCore
from incidents.database import Database
from incidents.models import Diagnosis, DiagnosisStatus, Incident, Severity, Via
from incidents.plan import Approval, ApprovalState, Proposal
from incidents.tables import CoreJobRow
from settings import NotifyChannel
from tools.feishu.texts import Language, text
from tools.notices.feishu import FeishuPost
from tools.notices.message import Notice
from tools.notices.post import Post

_ORDER = list(Severity)
_MOST_CORES = 500
_BY_URGENCY = {"critical": Severity.CRITICAL, "high": Severity.ERROR, "medium": Severity.WARNING}
_BY_STATUS = {DiagnosisStatus.HEALTHY: Severity.INFO, DiagnosisStatus.UNKNOWN: Severity.WARNING}


@dataclass(frozen=True)
class Cores:
    """What node agents collected for an incident: how many, on which nodes, and the newest."""

    count: int = 0
    nodes: tuple[str, ...] = ()
    newest: CollectedCore | None = None


async def cores_of(database: Database, incident_id: str) -> Cores:
    """Nodes are those of the newest 500. Raises what the database raises."""
    ours = CoreJobRow.incident_id == incident_id
    async with database.read() as session:
        count = await session.scalar(select(func.count()).where(ours)) or 0
        query = select(CoreJobRow.document).where(ours).order_by(CoreJobRow.created_at.desc()).limit(_MOST_CORES)
        documents = (await session.scalars(query)).all()
    found = []
    for document in documents:
        try:
            found.append(CollectedCore.model_validate(document))
        except ValidationError:  # of CoreDog, which has no such record
            continue
    return Cores(count, tuple(sorted({core.node for core in found})), found[0] if found else None)


def severity_of(diagnosis: Diagnosis | None) -> Severity:
    """The worst finding; without any, what the status is worth."""
    if diagnosis is None:
        return Severity.ERROR
    if diagnosis.status is DiagnosisStatus.HEALTHY:
        return Severity.INFO
    told = [finding.severity for finding in diagnosis.findings]
    return max(told, key=_ORDER.index, default=_BY_STATUS.get(diagnosis.status, Severity.ERROR))


def wants(channel: NotifyChannel, incident: Incident, severity: Severity, cores: Cores) -> bool:
    """Whether the filters of a channel, all of them, let an incident through."""
    target = incident.target
    if channel.namespaces and not any(fnmatchcase(target.namespace or "", one) for one in channel.namespaces):
        return False
    owners = (f"{target.kind}/{target.name}", target.name)
    if channel.owners and not any(fnmatchcase(owner, one) for one in channel.owners for owner in owners):
        return False
    if _ORDER.index(severity) < _ORDER.index(Severity(channel.min_severity)):
        return False
    executable = cores.newest.executable if cores.newest else None
    said = " ".join([incident.event, incident.summary or "", str(target), executable or ""])
    return channel.keyword is None or channel.keyword.casefold() in said.casefold()


def wants_notice(channel: NotifyChannel, said: str, urgency: str) -> bool:
    """Whether a notice that is no incident's is for it: one that asks for namespaces or owners never gets those."""
    severity = _BY_URGENCY.get(urgency, Severity.INFO)
    if channel.namespaces or channel.owners or _ORDER.index(severity) < _ORDER.index(Severity(channel.min_severity)):
        return False
    return channel.keyword is None or channel.keyword.casefold() in said.casefold()


def notice_of(
    incident: Incident,
    title: str,
    severity: Severity,
    cores: Cores,
    *,
    language: Language,
    link: str | None,
    diagnosis: Diagnosis | None = None,
    proposals: Sequence[Proposal] = (),
    approval: Approval | None = None,
) -> Notice:
    """What is known in a few lines. Buttons are Feishu's alone: here a link and a command lead to the decision."""
    causes = diagnosis.causes if diagnosis else []
    told = [("target", str(incident.target))]
    if incident.via is Via.POLICY and approval is None:
        told.append(("event", incident.event))
    if approval is not None:
        told += _asked(approval, language)
    elif causes:
        told.append(("cause", f"{causes[0].cause_class}: {causes[0].summary}"))
    elif incident.summary:
        told.append(("cause", incident.summary))
    if (times := max(incident.count, cores.count)) > 1:
        nodes = len(cores.nodes) or 1
        told.append(("storm", text(language, "storm" if nodes > 1 else "storm.one_node", count=times, nodes=nodes)))
    told += [("proposal", proposal.title) for proposal in proposals[:1]]
    told.append(("incident", incident.id))
    lines = [(text(language, f"label.{name}"), said) for name, said in told]
    cause = causes[0].summary if causes else incident.summary or ""
    values = {
        **_core_values(incident, cores),
        "title": title,
        "target": str(incident.target),
        "cause": cause,
        "severity": severity.value,
        "count": str(times),
        "nodes": ", ".join(cores.nodes[:5]) + (" …" if len(cores.nodes) > 5 else ""),
        "incident.id": incident.id,
        "incident.link": link or "",
    }
    return Notice(title, lines, link, text(language, "button.open"), values)


def _asked(approval: Approval, language: Language) -> list[tuple[str, str]]:
    """What is to be decided and how, or what became of it."""
    plan = approval.plan
    found = [("action", plan.title), ("why", plan.reason)]
    if approval.state is not ApprovalState.PENDING:
        return [*found, ("outcome", approval.outcome or text(language, f"state.{approval.state.value}"))]
    given = sum(vote.verdict == "approve" for vote in approval.votes)
    return [
        *found,
        ("risk", f"{text(language, f'risk.{plan.risk.value}')}; {plan.blast_radius}"),
        ("quorum", text(language, "quorum.state", given=given, needed=approval.quorum)),
        ("decide", f"paramedic approve {approval.id} | paramedic reject {approval.id}"),
    ]


def _core_values(incident: Incident, cores: Cores) -> dict[str, str]:
    """CoreDog's variables. Its presigned link is not among them: a core holds a process's secrets."""
    core = cores.newest
    origin = core.origin if core else None
    stored = next((one for one in core.stored if one.kind in ("minimal", "full")), None) if core else None
    path = incident.core.path if incident.core and incident.core.path else ""
    key = stored.key if stored else path
    return {
        "pod.namespace": (origin.namespace if origin else incident.target.namespace) or "",
        "pod.name": origin.pod if origin else "",
        "pod.uid": (origin.pod_uid if origin else None) or "",
        "pod.node": core.node if core else "",
        "host.ip": (origin.host_ip if origin else None) or "",
        "corefile.path": key,
        "corefile.filename": PurePosixPath(key).name,
        "corefile.url": f"{stored.key} (ask `paramedic store link`)" if stored else "",
    }


def posts_of(channels: Sequence[NotifyChannel]) -> dict[str, Post | FeishuPost]:
    """By channel id. Raises InvalidInput when an address cannot be read."""
    found: dict[str, Post | FeishuPost] = {}
    for one in channels:
        address = _address(one)
        if one.kind == "feishu":
            found[channel_id(one)] = FeishuPost(address, one.webhook_secret)
        else:
            found[channel_id(one)] = Post(channel_id(one), one.kind, address)
    return found


def channel_id(channel: NotifyChannel) -> str:
    """As the outbox and the metrics name it."""
    return f"{channel.kind}:{channel.name}"


def _address(channel: NotifyChannel) -> str:
    if channel.webhook_url is not None:
        return channel.webhook_url.get_secret_value()
    assert channel.webhook_url_file is not None
    try:
        return channel.webhook_url_file.read_text().strip()
    except OSError as error:
        raise InvalidInput(f"webhook_url_file of channel {channel.name} cannot be read: {error.strerror}") from None
