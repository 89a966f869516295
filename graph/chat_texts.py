"""What the chat says, in English and Chinese. Values are filled in, never parsed: they may be outside text."""

from __future__ import annotations

from typing import Literal

Language = Literal["en", "zh"]

_EN = {
    "help": (
        "I answer from what Paramedic has on record. Ask me: what happened to shop/api, why, where in the code, what "
        "evidence there is, what I would do, how far it is, who approved; to list incidents; or to diagnose a workload "
        '("diagnose deployment shop/api"). I change nothing.'
    ),
    "no_decision": (
        "I do not approve or execute anything, whoever asks and however. Approvals go through the card in the chat "
        "channel, `paramedic approve ID`, or POST /api/v1/approvals/{{id}}/decision with the digest of the plan."
    ),
    "waits": "Waiting for a person: {title} ({id}, until {until}).",
    "cannot": (
        "I cannot answer that: I only know the incidents on record and the workloads of the cluster. "
        "Ask what happened, why, where, on what evidence, what to do, or for the list of incidents."
    ),
    "nothing_known": "There are no incidents on record.",
    "which": "Which one do you mean?",
    "candidate": "- {what} ({status}, {id})",
    "candidate_ref": "- {what}",
    "unknown_name": "I know nothing called {name}: it is neither on record nor seen in the cluster.",
    "close": "Do you mean {names}?",
    "no_incident": 'There is no incident about {ref} yet. Say "diagnose {ref}" and I start one.',
    "no_incident_id": "There is no incident {name}.",
    "no_evidence_id": "I have no evidence {name} on record.",
    "start_what": 'What shall I diagnose? Name a workload, such as "diagnose deployment shop/api".',
    "start_no_cluster": "No cluster is connected, so I cannot look at workloads. Cores are posted to /api/v1/autofix.",
    "start_no_scope": "Your key may read only; starting a diagnosis needs the scope `autofix`.",
    "started": "I have started on {ref} ({id}).",
    "joined": "{ref} is being worked on already ({id}).",
    "not_yet": "It is not finished yet; ask me for its status in a moment.",
    "unreachable": "The cluster does not answer, so I only know what is on record.",
    "headline": "{target}: {status}. Reported {at} by {by}.",
    "reported": "What was reported: {event}",
    "analysing": "It is still being analysed; there is no diagnosis yet.",
    "no_diagnosis": "It ended without a diagnosis.",
    "cause": "{n}. {summary} (confidence {confidence})",
    "likely": "Most likely: {summary} (confidence {confidence})",
    "others": "Less likely, also considered: {list}.",
    "finding": "- {claim}",
    "unknown_cause": "The cause is not known: what was observed does not single one out.",
    "healthy": "Nothing is wrong with it, by everything that was looked at.",
    "failed": "The analysis itself failed.",
    "unseen": "What could not be seen: {list}.",
    "ruled_out": "Ruled out: {list}.",
    "crash_line": "It crashed at {line}{function}.",
    "in_function": " in {function}",
    "crash_function": "It crashed in {function}; no source line is known for it.",
    "crash_nowhere": "The stack gives no place in the program's own code.",
    "mechanism": "{text}",
    "thread": "Thread {id}{name}, innermost frame first:",
    "frame": "#{n} {function}{place}",
    "no_crash": "No core dump was analysed in this incident, so I cannot name a place in the code.",
    "evidence_count": "There are {n} pieces of evidence:",
    "evidence": "- {kind} from {source}",
    "more": "… and {n} more.",
    "no_evidence": "Nothing was observed yet.",
    "excerpt": "{id} ({kind}), read from {source}:",
    "proposal": "Proposed, for people to do: {title}. {reason}",
    "proposal_step": "- {text}",
    "change": "The change:\n{text}",
    "plan": "Proposed fix: {title} (risk {risk}, touches: {blast}; {undo}). State: {state}.",
    "undo_yes": "can be undone",
    "undo_no": "cannot be undone",
    "diff": "{text}",
    "by_people": "Nothing of it is executed before {n} named person(s) approve(s) exactly this plan.",
    "no_fix": "I have no fix to propose for it.",
    "next_step": "- {text}",
    "next_steps": "What I would look at next:",
    "began": "{span} before it was first seen, at {at}: {text}",
    "timeline": "What happened when (UTC):",
    "moment": "{mark} {at} {text}{times}",
    "moment_times": " ({n} times, until {until})",
    "no_timeline": "Nothing with a time was seen around it.",
    "recalled": "- {text} ({source}). {why} {checked}",
    "recalled_none": "Nothing like it is on record: no earlier incident of the same cause on the same object.",
    "status": "{target}: {status}.",
    "step": "- {at} {text}",
    "vote": "- {identity}: {verdict} at {at} through {channel}{waived}",
    "waived": ", evidence waived",
    "votes_for": "{title} ({id}) is {state}:",
    "no_votes": "- nobody has decided yet; {quorum} needed, until {until}",
    "no_approvals": "Nothing in this incident needed an approval.",
    "outcome": "- outcome: {text}",
    "runbook": "- {source}{checked}:\n{text}",
    "no_runbooks": "No folder of runbooks is configured (runbooks.folder), so I know none.",
    "runbook_none": "No runbook fits that.",
    "model": "(This answer is a model's, kept only as far as the evidence bears it.)",
    "namespace_looked": "I looked at the namespace {namespace} (by rules, nothing was changed):",
}

_ZH = {
    "help": (
        "我只根据 Paramedic 的记录回答。可以问：shop/api 发生了什么、为什么、在代码哪一行、有什么证据、怎么办、"
        "进度如何、谁批准的；列出事故；或者“诊断 deployment shop/api”。我不会改动任何东西。"
    ),
    "no_decision": (
        "我不会批准或执行任何操作，无论谁以何种方式要求。审批只能通过群里的卡片、`paramedic approve ID`，"
        "或带有方案摘要（digest）的 POST /api/v1/approvals/{{id}}/decision。"
    ),
    "waits": "等待人工审批：{title}（{id}，截止 {until}）。",
    "cannot": (
        "这个问题我无法回答：我只知道已记录的事故和集群里的工作负载。可以问发生了什么、为什么、在哪里、"
        "有什么证据、怎么办，或者列出事故。"
    ),
    "nothing_known": "目前没有任何事故记录。",
    "which": "请问您指的是哪一个？",
    "candidate": "- {what}（{status}，{id}）",
    "candidate_ref": "- {what}",
    "unknown_name": "没有找到 {name}：记录里没有，集群里也没有看到。",
    "close": "您是指 {names} 吗？",
    "no_incident": "还没有关于 {ref} 的事故。说“诊断 {ref}”我就开始。",
    "no_incident_id": "没有事故 {name}。",
    "no_evidence_id": "记录里没有证据 {name}。",
    "start_what": "要诊断什么？请说出工作负载，例如“诊断 deployment shop/api”。",
    "start_no_cluster": "没有连接集群，所以看不到工作负载。核心转储可以提交到 /api/v1/autofix。",
    "start_no_scope": "您的密钥只能读取；发起诊断需要 `autofix` 权限。",
    "started": "已开始诊断 {ref}（{id}）。",
    "joined": "{ref} 已在处理中（{id}）。",
    "not_yet": "还没有结束，请稍后问我进度。",
    "unreachable": "集群没有响应，我只知道已有的记录。",
    "headline": "{target}：{status}。{at} 由 {by} 上报。",
    "reported": "上报内容：{event}",
    "analysing": "仍在分析中，还没有诊断结果。",
    "no_diagnosis": "结束时没有得出诊断。",
    "cause": "{n}. {summary}（置信度 {confidence}）",
    "likely": "最可能的原因：{summary}（置信度 {confidence}）",
    "others": "可能性较小的还有：{list}。",
    "finding": "- {claim}",
    "unknown_cause": "原因未知：观察到的内容不足以确定。",
    "healthy": "检查过的各方面都没有发现问题。",
    "failed": "分析本身失败了。",
    "unseen": "没能看到的：{list}。",
    "ruled_out": "已排除：{list}。",
    "crash_line": "崩溃位置：{line}{function}。",
    "in_function": "，函数 {function}",
    "crash_function": "崩溃在函数 {function}，没有对应的源代码行。",
    "crash_nowhere": "调用栈里没有属于程序自身代码的位置。",
    "mechanism": "{text}",
    "thread": "线程 {id}{name}，从最内层栈帧开始：",
    "frame": "#{n} {function}{place}",
    "no_crash": "这次事故没有分析过核心转储，所以无法指出代码位置。",
    "evidence_count": "共有 {n} 条证据：",
    "evidence": "- {kind}，来自 {source}",
    "more": "……还有 {n} 条。",
    "no_evidence": "还没有观察到任何内容。",
    "excerpt": "{id}（{kind}），读自 {source}：",
    "proposal": "建议由人来做：{title}。{reason}",
    "proposal_step": "- {text}",
    "change": "修改内容：\n{text}",
    "plan": "建议的修复：{title}（风险 {risk}，影响：{blast}；{undo}）。状态：{state}。",
    "undo_yes": "可撤销",
    "undo_no": "不可撤销",
    "diff": "{text}",
    "by_people": "在 {n} 位指定人员批准这份方案之前，不会执行任何内容。",
    "no_fix": "没有可建议的修复。",
    "next_step": "- {text}",
    "next_steps": "接下来建议查看：",
    "began": "首次出现前 {span}（{at}）：{text}",
    "timeline": "时间线（UTC）：",
    "moment": "{mark} {at} {text}{times}",
    "moment_times": "（{n} 次，至 {until}）",
    "no_timeline": "没有看到带时间的相关记录。",
    "recalled": "- {text}（{source}）。{why} {checked}",
    "recalled_none": "没有类似的记录：同一对象上没有相同原因的历史事故。",
    "status": "{target}：{status}。",
    "step": "- {at} {text}",
    "vote": "- {identity}：{verdict}，{at}，经由 {channel}{waived}",
    "waived": "，已豁免证据",
    "votes_for": "{title}（{id}）状态 {state}：",
    "no_votes": "- 还没有人决定；需要 {quorum} 人，截止 {until}",
    "no_approvals": "这次事故没有需要审批的内容。",
    "outcome": "- 结果：{text}",
    "runbook": "- {source}{checked}：\n{text}",
    "no_runbooks": "没有配置预案目录（runbooks.folder），所以我没有任何预案。",
    "runbook_none": "没有符合的预案。",
    "model": "（此回答来自模型，仅保留有证据支持的内容。）",
    "namespace_looked": "已查看命名空间 {namespace}（仅按规则，没有改动任何东西）：",
}

_STATUS_ZH = {
    "received": "已接收",
    "analysing": "分析中",
    "awaiting_approval": "等待审批",
    "executing": "执行中",
    "diagnosed": "已诊断",
    "healthy": "健康",
    "unknown": "原因未知",
    "fixed": "已修复",
    "not_fixed": "未修复（已撤销）",
    "escalated": "需要人工处理",
    "declined": "已拒绝",
    "expired": "审批已过期",
    "stale": "审批已失效",
    "failed": "失败",
}

TEXTS: dict[Language, dict[str, str]] = {"en": _EN, "zh": _ZH}


def say(language: Language, key: str, **values: object) -> str:
    """The text with its values."""
    return TEXTS[language][key].format(**values)


def status_word(language: Language, status: str) -> str:
    return _STATUS_ZH.get(status, status) if language == "zh" else status.replace("_", " ")
