"""Words as the index knows them.

SQLite's tokenizers keep a Chinese sentence as one token (unicode61), or find nothing of fewer than three characters
(trigram). So a run of Chinese or Japanese characters is written as its overlapping pairs, and looked for as a phrase of
pairs: every word of two characters is found. English is left to the porter stemmer over unicode61.

A query of FTS5 is a small language. Only `phrase` makes pieces of it, always quoted: no text can leave the quotes.
"""

from __future__ import annotations

import re
import unicodedata

TOKENIZER = "porter unicode61 remove_diacritics 2"
_WIDE = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
_RUN = re.compile(f"[{_WIDE}]+")
_WORD = re.compile(f"[^\\W_{_WIDE}]+")

# words that stand in every text about Kubernetes, or in every sentence: they tell no runbook from another
_COMMON = frozenset(
    """
    a about after all also an and any are as at back be been before but by can cannot check could did do does down each
    else every few first for from get got had has have he help here how i if in into is it its just last like look many
    may me might more most much must my need new no none not now of off on one only or other our out over own per please
    run runs running same say see set she should show so some still such than that the their them then there these they
    this those through to too two under up use used using very was way we were what when where which while who whole why
    will with without would yes yet you your
    action alert app application cause change cluster command config configuration container containers crash crashed
    crashes crashing deploy deployment deployments error errors event events exit fail failed failing fails failure
    field file fix guide image incident incidents issue job k8s kill killed kind kube kubectl kubernetes label limit log
    logs main manual message name namespace namespaces node nodes object objects pod pods port ports problem problems
    process production ready reason replica request reset resource restart restarted restarting restarts rollout
    runbook runbooks playbook server service services spec start started starting starts state status step steps stop
    system team test time unknown user value version volume web work workload workloads wrong yaml
    """.split()  # noqa: SIM905
)
_COMMON_WIDE = frozenset(
    """
    有没有 怎么办 怎么处理 怎么样 怎么 如何 为什么 什么 哪些 哪个 是否 可以 需要 应该 请问 一下 关于 对于 这个
    那个 我们 你们 出现 发生 处理 解决 排查 检查 查看 步骤 方法 方案 预案 手册 应急 运维 文档 指南 问题 故障 错误
    失败 异常 服务 应用 容器 集群 节点 部署 重启 崩溃 启动 日志 状态 系统 进程 配置
    的 了 吗 呢 和 与
    """.split()  # noqa: SIM905
)
_FILLER = re.compile("|".join(sorted(map(re.escape, _COMMON_WIDE), key=len, reverse=True)))


def normal(text: str) -> str:
    """Full-width letters and digits as plain ones (NFKC); no NUL, which ends a string in SQLite."""
    return unicodedata.normalize("NFKC", text).replace("\0", " ")


def indexed(text: str) -> str:
    """`text` as it is written into the index."""
    return _RUN.sub(lambda run: f" {pairs(run[0])} ", normal(text))


def pairs(run: str) -> str:
    """The overlapping pairs of a run of wide characters, with blanks between; a single character is itself."""
    return " ".join(run[at : at + 2] for at in range(len(run) - 1)) or run


def phrase(text: str) -> str | None:
    """A query for exactly this sequence of words, as one quoted piece; None when there is no word in it.

    A single wide character is looked for as the beginning of a pair.
    """
    tokens = " ".join(_tokens(normal(text)))
    if not tokens:
        return None
    lone = _RUN.fullmatch(tokens) and len(tokens) == 1
    return f'"{tokens}"*' if lone else f'"{tokens}"'


def words_of(text: str) -> list[str]:
    """The words of a free text: its telling ones, or all, when nothing but common words is there."""
    text = normal(text)
    every = [part[0] for part in _WORD.finditer(text)] or _RUN.findall(text)
    return telling_words(text) or list(dict.fromkeys(every))


def telling_words(text: str) -> list[str]:
    """English words and runs of wide characters, without what is common to all runbooks."""
    found: list[str] = []
    for part in re.finditer(f"{_WORD.pattern}|{_RUN.pattern}", normal(text)):
        if _RUN.match(part[0]):
            found += [run for run in _FILLER.split(part[0]) if len(run) > 1]
        elif not is_common(part[0]):
            found.append(part[0])
    return list(dict.fromkeys(found))


def is_common(word: str) -> bool:
    """Whether an English word tells nothing. Single letters and bare numbers tell nothing either."""
    return len(word) < 2 or word.isdigit() or word.casefold() in _COMMON


def is_wide(text: str) -> bool:
    return _RUN.search(text) is not None


def _tokens(text: str) -> list[str]:
    tokens: list[str] = []
    for part in re.finditer(f"{_WORD.pattern}|{_RUN.pattern}", text):
        tokens += pairs(part[0]).split() if _RUN.match(part[0]) else [part[0]]
    return tokens
