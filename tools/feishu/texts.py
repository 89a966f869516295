"""What cards and toasts say, in English and Chinese. Values put into a text must already be escaped for its place."""

from __future__ import annotations

from typing import Literal

from settings import Settings

Language = Literal["en", "zh"]
LANGUAGES: tuple[Language, ...] = ("en", "zh")

TEXTS: dict[str, tuple[str, str]] = {
    # titles
    "title.diagnosed": ("Crash diagnosed", "已定位故障原因"),
    "title.unknown": ("Cause unknown", "未能确定原因"),
    "title.healthy": ("Nothing is wrong", "未发现异常"),
    "title.failed": ("Diagnosis failed", "诊断失败"),
    "title.request": ("Approval needed", "需要审批"),
    "title.progress": ("Approved, in progress", "已批准，执行中"),
    "title.outcome.done": ("Fixed and verified", "已修复并验证"),
    "title.outcome.undone": ("Not fixed: the change was undone", "未修复：变更已撤销"),
    "title.outcome.failed": ("A human has to look", "需要人工处理"),
    "title.outcome.rejected": ("Rejected: nothing was changed", "已拒绝：未做任何变更"),
    "title.outcome.expired": ("Expired: nothing was changed", "已过期：未做任何变更"),
    "title.outcome.superseded": ("Replaced by a newer plan", "已被新方案取代"),
    "title.outcome.stale": ("Out of date: nothing was changed", "对象已变化：未做任何变更"),
    "title.result": ("Incident ended", "事件已结束"),
    # labels
    "label.incident": ("Incident", "事件"),
    "label.target": ("Target", "对象"),
    "label.event": ("Reported", "上报内容"),
    "label.status": ("Status", "状态"),
    "label.cause": ("Cause", "原因"),
    "label.confidence": ("confidence", "置信度"),
    "label.other_causes": ("Also possible", "其他可能"),
    "label.findings": ("Findings", "发现"),
    "label.stack": ("Crashing thread", "崩溃线程"),
    "label.root_cause": ("Root cause", "根本原因"),
    "label.severity": ("Severity", "严重程度"),
    "label.history": ("Record", "历史记录"),
    "label.evidence": ("Evidence", "证据"),
    "label.unseen": ("Could not be seen", "未能查看"),
    "label.next_steps": ("Next steps", "后续步骤"),
    "label.proposal": ("Proposal for people", "人工处理建议"),
    "label.explanation": ("Explanation (by a model)", "说明（由模型生成）"),
    "label.action": ("Action", "操作"),
    "label.why": ("Why", "理由"),
    "label.writes": ("What is written", "写入内容"),
    "label.diff": ("Change", "变更"),
    "label.risk": ("Risk", "风险"),
    "label.blast_radius": ("Reach", "影响范围"),
    "label.undo": ("Undo", "撤销方案"),
    "label.core": ("Core dump", "核心转储"),
    "label.digest": ("Plan digest", "方案摘要"),
    "label.expires": ("Valid until", "有效期至"),
    "label.requested_by": ("Requested by", "申请人"),
    "label.quorum": ("Approvals", "审批"),
    "label.votes": ("Decisions", "审批记录"),
    "label.outcome": ("Outcome", "结果"),
    # values
    "risk.low": ("low", "低"),
    "risk.medium": ("medium", "中"),
    "risk.high": ("high", "高"),
    "undo.possible": (
        "automatic when it does not help: {count} inverse write(s)",
        "无效时自动撤销：{count} 个反向写入",
    ),
    "undo.impossible": ("**not possible**", "**无法撤销**"),
    "core.none": ("not needed for this action", "此操作不需要"),
    "core.captured": ("captured, sha256 {sha}…", "已采集，sha256 {sha}…"),
    "core.missing": (
        "**missing**: the action would destroy the crash's evidence; it runs only when the core is captured or waived",
        "**缺失**：该操作会破坏崩溃现场；仅在采集到核心转储或明确放弃后执行",
    ),
    "quorum.state": ("{given} of {needed}", "{given}/{needed}"),
    "vote.approve": ("approved", "批准"),
    "vote.reject": ("rejected", "拒绝"),
    "vote.waived": ("without the core", "放弃核心转储"),
    "pods.affected": ("{count} pod(s)", "{count} 个 Pod"),
    "cut.lines": ("… {shown} of {total} lines shown: {where}", "… 仅显示 {total} 行中的 {shown} 行：{where}"),
    "cut.hidden": (
        "Parts are masked here (secrets, contacts): {where}",
        "部分内容已遮蔽（密钥、联系方式）：{where}",
    ),
    "cut.where": ("`paramedic approvals {id}` shows the whole", "用 `paramedic approvals {id}` 查看全文"),
    "cut.where_incident": (
        "`GET /api/v1/incidents/{id}` has the whole",
        "全文见 `GET /api/v1/incidents/{id}`",
    ),
    "cut.where_sender": ("ask the sender", "请询问发送者"),
    "decide.elsewhere": (
        "To decide: `paramedic approve {id}` or the API.",
        "请用 `paramedic approve {id}` 或 API 审批。",
    ),
    # buttons
    "button.approve": ("Approve", "批准"),
    "button.reject": ("Reject", "拒绝"),
    "button.waive": ("Approve without core", "放弃核心转储并批准"),
    "button.open": ("Open", "查看详情"),
    "confirm.approve.title": ("Apply this change?", "确定执行此变更？"),
    "confirm.approve.text": ("Plan digest {digest}. It is applied at once.", "方案摘要 {digest}，将立即执行。"),
    "confirm.waive.title": ("Give up the core dump?", "确定放弃核心转储？"),
    "confirm.waive.text": (
        "The crash's core is not captured and is lost for good. Plan digest {digest}.",
        "崩溃的核心转储尚未采集，将永久丢失。方案摘要 {digest}。",
    ),
    # toasts
    "toast.approved": ("Approved: the change is being applied", "已批准，正在执行"),
    "toast.recorded": ("Recorded: {given} of {needed} approvals", "已记录：{given}/{needed} 个批准"),
    "toast.rejected": ("Rejected: nothing was changed", "已拒绝：未做任何变更"),
    "toast.late": ("Too late, already: {state}", "已无法审批，当前状态：{state}"),
    "toast.forbidden": ("You may not decide this", "您无权审批"),
    "toast.conflict": ("Not possible any more", "当前状态不允许此操作"),
    "toast.refused": ("Refused by the gate; nothing was changed", "已被安全策略拒绝：未做任何变更"),
    "toast.not_found": ("There is no such request", "审批请求不存在"),
    "toast.failed": (
        "The decision could not be recorded; please try again",
        "未能记录审批结果，请重试",
    ),
    "toast.slow": (
        "Still recording the decision; the card will show it",
        "正在记录审批结果，稍后卡片会更新",
    ),
    "toast.duplicate": ("This press was already handled", "此次点击已处理"),
    "toast.unknown_button": ("This button is not of a current card", "此按钮已失效"),
    # approval states
    "state.pending": ("waiting for a decision", "待审批"),
    "state.approved": ("approved", "已批准"),
    "state.rejected": ("rejected, nothing was changed", "已拒绝，未做变更"),
    "state.expired": ("expired, nothing was changed", "已过期，未做变更"),
    "state.superseded": ("replaced by a newer plan", "已被新方案取代"),
    "state.stale": ("out of date, nothing was changed", "对象已变化，未做变更"),
    "state.claimed": ("being executed", "执行中"),
    "state.executing": ("being executed", "执行中"),
    "state.verifying": ("being verified", "验证中"),
    "state.done": ("done and verified", "已完成并验证"),
    "state.undone": ("undone, it did not help", "无效，已撤销"),
    "state.failed": ("failed, a human has to look", "失败，需要人工处理"),
    # incident states
    "incident.received": ("received", "已接收"),
    "incident.analysing": ("being analysed", "分析中"),
    "incident.awaiting_approval": ("waiting for approval", "待审批"),
    "incident.executing": ("being executed", "执行中"),
    "incident.diagnosed": ("diagnosed", "已诊断"),
    "incident.healthy": ("healthy", "正常"),
    "incident.unknown": ("cause unknown", "原因未知"),
    "incident.fixed": ("fixed", "已修复"),
    "incident.not_fixed": ("not fixed", "未修复"),
    "incident.escalated": ("escalated: a human has to look", "已升级，需要人工处理"),
    "incident.declined": ("declined", "已拒绝"),
    "incident.expired": ("expired: nobody decided in time", "无人审批，已过期"),
    "incident.stale": ("out of date: nothing was changed", "对象已变化，未做变更"),
    "incident.failed": ("failed", "失败"),
    # causes
    "cause.null_dereference": ("null pointer dereference", "空指针解引用"),
    "cause.wild_pointer": ("wild pointer", "野指针"),
    "cause.stack_overflow": ("stack overflow", "栈溢出"),
    "cause.abort": ("abort", "程序主动中止 (abort)"),
    "cause.heap_corruption": ("heap corruption", "堆损坏"),
    "cause.stack_smashing": ("stack smashing", "栈破坏"),
    "cause.assertion": ("failed assertion", "断言失败"),
    "cause.uncaught_exception": ("uncaught exception", "未捕获的异常"),
    "cause.panic": ("panic", "程序恐慌 (panic)"),
    "cause.arithmetic": ("arithmetic error", "算术错误"),
    "cause.illegal_instruction": ("illegal instruction", "非法指令"),
    "cause.bus_error": ("bus error", "总线错误"),
    "cause.external_signal": ("killed from outside", "被外部信号终止"),
    "cause.native_crash": ("native crash", "本地代码崩溃"),
    "cause.oom_killed": ("out of memory (OOMKilled)", "内存不足 (OOMKilled)"),
    "cause.wrong_liveness_probe": ("wrong liveness probe", "存活探针配置错误"),
    "cause.wrong_readiness_probe": ("wrong readiness probe", "就绪探针配置错误"),
    "cause.wrong_startup_probe": ("wrong startup probe", "启动探针配置错误"),
    "cause.bad_image": ("bad image reference", "镜像引用错误"),
    "cause.missing_pull_secret": ("missing pull secret", "缺少镜像拉取凭据"),
    "cause.missing_config_map": ("missing ConfigMap", "缺少 ConfigMap"),
    "cause.missing_config_key": ("missing configuration key", "缺少配置项"),
    "cause.missing_secret": ("missing Secret", "缺少 Secret"),
    "cause.bad_command": ("bad command", "启动命令错误"),
    "cause.unschedulable": ("unschedulable", "无法调度"),
    "cause.quota_exceeded": ("quota exceeded", "超出配额"),
    "cause.application_error": ("application error", "应用错误"),
    "cause.dependency_unavailable": ("dependency unavailable", "依赖不可用"),
    "cause.bad_rollout": ("bad rollout", "发布有问题"),
    "cause.evicted": ("evicted", "被驱逐"),
    "cause.node_lost": ("node lost", "节点失联"),
    "cause.unknown": ("unknown", "未知"),
}


def text(language: Language, key: str, **values: object) -> str:
    """The text for `key`. Raises KeyError for an unknown key or a missing value."""
    return TEXTS[key][LANGUAGES.index(language)].format(**values)


def language_of(settings: Settings) -> Language:
    """The channel's own language where one is configured, else the service's."""
    return settings.feishu.language if "language" in settings.feishu.model_fields_set else settings.language
