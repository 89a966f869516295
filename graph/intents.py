"""What a chat message asks for, by its words. English and Chinese; no model is needed."""

from __future__ import annotations

import re
from enum import StrEnum


class Intent(StrEnum):
    WHO = "who"
    DECIDE = "decide"  # asked to approve or to act: the chat never does
    RUNBOOK = "runbook"  # what the team has written about it
    HELP = "help"
    LIST = "list"
    START = "start"
    BEFORE = "before"  # whether it was seen before, and what was done then
    WHERE = "where"
    EVIDENCE = "evidence"
    FIX = "fix"
    CHANGES = "changes"  # what happened when, and what changed before
    STATUS = "status"
    WHY = "why"
    WHAT = "what"
    NONE = "none"

    @property
    def about_one(self) -> bool:
        """Answered from the record of one incident."""
        return self not in (Intent.RUNBOOK, Intent.HELP, Intent.LIST, Intent.START, Intent.DECIDE, Intent.NONE)


_VERBS = (
    "approve|reject|confirm|decline|waive|execute|apply|deploy|roll\\s?back|undo|revert|restart|delete|remove|uninstall|"
    "scale|kill|patch|fix|run|exec|drain|cordon"
)
_ASKED = (
    r"(?:^|[.!;,:\n]\s*"
    r"|\b(?:please|now|and|then|just|go ahead(?: and)?|(?:can|could|will|would|must|should|may) you|i)\s+)"
)
# the order is the priority: "who approved it" is a question, "approve it" is not one that can be done here
_RULES: list[tuple[Intent, re.Pattern[str]]] = [
    (intent, re.compile(pattern, re.IGNORECASE))
    for intent, pattern in (
        (Intent.WHO, r"\bwho\b.{0,40}\b(?:approv|reject|decid|declin|sign)|谁.{0,12}(?:批准|审批|同意|拒绝|决定)"),
        (
            Intent.DECIDE,
            r"\b(?:approve|reject|waive)\b|(?:请|立即|马上|帮我|直接|现在|给我|^)\s*(?:批准|同意|拒绝|审批)|批准(?:它|吧|这)",
        ),
        (Intent.DECIDE, rf"{_ASKED}(?:{_VERBS})\b(?!\s*\?)"),
        (
            Intent.DECIDE,
            r"(?:请|立即|马上|帮我|直接|现在|给我|^)\s*(?:执行|回滚|重启|删除|卸载|扩容|缩容|修复)|(?:执行|回滚|重启|删除)(?:它|吧)",
        ),
        (Intent.RUNBOOK, r"\b(?:run|play)\s?books?\b|预案|运维手册|应急手册|操作手册|处理手册"),
        (
            Intent.HELP,
            r"^\W*(?:help|usage|commands)\b|\bwhat can (?:you|i)\b|\bhow do i (?:use|ask)\b|帮助|你能做什么|怎么用",
        ),
        (
            Intent.BEFORE,
            r"\b(?:seen|happen(?:ed)?|occur(?:red)?|crash(?:ed)?|fail(?:ed)?|done|had|known)\b.{0,40}"
            r"\b(?:before|earlier|in the past)\b\W*$|\blast time\b"
            r"|\b(?:past|previous|similar|earlier) (?:incidents|cases)\b"
            r"|(?:以前|之前|过去|曾经|历史上).{0,8}(?:出现|发生|遇到|见|有)过|上次.{0,10}(?:怎么|如何|处理|解决|修)|类似的?(?:事故|故障|案例)",
        ),
        (
            Intent.LIST,
            r"\b(?:list|show|which|what|any|all|recent|open|latest)\b.{0,40}\b(?:incidents|crashes|problems|issues|approvals)\b"
            r"|有哪些|有什么(?:事故|故障|问题)|列出|所有(?:事故|事件|故障)|最近的?(?:事故|崩溃|故障)",
        ),
        (
            Intent.START,
            r"\b(?:diagnose|analy[sz]e|investigate|inspect|examine|debug|triage|look (?:into|at)|check)\b"
            r"|诊断|分析|排查|检查|调查",
        ),
        (
            Intent.WHERE,
            r"\bwhere\b|\b(?:which|what) (?:source )?(?:line|file|function|code)|\bsource (?:line|code)"
            r"|\bstack\b|\bbacktrace\b|\bframes?\b|哪一?行|哪里|哪个(?:函数|文件)|什么(?:地方|位置)|堆栈|调用栈|代码",
        ),
        (
            Intent.EVIDENCE,
            r"\bevidence\b|\bproof\b|\bprove\b|\bhow do you know\b|\blogs?\b|\bev_[0-9a-f]{6}"
            r"|证据|依据|日志|凭什么|怎么知道",
        ),
        (
            Intent.FIX,
            r"\bfix|\bwhat (?:would|should|can|could|do) (?:you|we|i)\b|\bpropos|\brecommend|\bsolution|\bsolve|\bremed"
            r"|\bnext steps?\b|\bdiff\b|\bplan\b|\bhelp with\b"
            r"|修复|怎么办|怎么修|如何(?:修|解决)|建议|解决|方案|下一步",
        ),
        (
            Intent.CHANGES,
            r"\btimeline\b|\bwhat\b.{0,20}\bchang|\bwhich changes?\b|\bsince when\b"
            r"|\bwhen did\b.{0,40}\b(?:start|begin)"
            r"|时间线|时间轴|(?:改|变)了什么|改过什么|改动|变更|有什么变化|什么时候开始|从何时",
        ),
        (
            Intent.STATUS,
            r"\bstatus\b|\bstate\b|\bprogress\b|\bhow far\b|\b(?:done|finished|ready) yet\b"
            r"|\bis it (?:done|fixed|over)\b"
            r"|\bwaiting\b|状态|进度|进展|怎么样了|好了吗",
        ),
        (Intent.WHY, r"\bwhy\b|\bcause[ds]?\b|\breason\b|\bhow come\b|为什么|为何|原因|为啥"),
        (
            Intent.WHAT,
            r"\bwhat(?:'s| is| was| has)? (?:happen|wrong|broke|crash|going on|up with|fail)|\bhappened\b|\bsummar"
            r"|\btell me about\b|\bcrash(?:ed|es|ing)?\b|\bwhat about\b"
            r"|发生了什么|怎么回事|怎么了|出了什么|崩溃|概述|总结",
        ),
    )
]


def intent_of(message: str) -> Intent:
    """The first kind of request whose words the message has; NONE when it has none."""
    for intent, pattern in _RULES:
        if pattern.search(message):
            return intent
    return Intent.NONE


def is_chinese(text: str) -> bool:
    return re.search(r"[\u4e00-\u9fff]", text) is not None
