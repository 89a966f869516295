"""What of a question may leave for the web: words, and nothing that names what is inside.

A model writes the question after it has read logs and objects, so a question may hold any of it. What leaves is made
anew from single words, each of which must pass:

- secrets, mail addresses and URLs are taken out before the text is cut into words;
- only letters and digits of ASCII, Chinese characters, and `. - _ + #` inside a word stay: no operator of a search
  engine (`!`, `:`, `site:`) and no look-alike letter of another script;
- a word that is a name seen in the cluster (object, namespace, node, container, image, host, label), one of its parts,
  or holds a name of four characters or more, is dropped. Names of well-known software are public and may stay;
- a word of the shape of an address, a host, a path, an id or a random string is dropped, whoever made it up: dots
  (but for `java.lang.OutOfMemoryError` and `v1.29`), many digits, letters without the shape of words;
- a word with a hyphen or an underscore is the shape of an object's name: it stays only if all its parts are among the
  words of the causes' own texts, Kubernetes' and the system's (`read-only`, `connection_refused`).

Plain words that are no name in the captured namespace do leave: that is what a search is made of.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Collection
from functools import cache

from diagnosis.redaction import MASK, redact
from incidents.models import CauseClass
from tools.runbooks.names import names_of

MAX_CHARS = 120
MAX_WORDS = 16
_URL = re.compile(r"\b[a-z][a-z0-9+.-]*://\S*|\bwww\.\S+", re.IGNORECASE)
_WORD = re.compile(r"[^\s,;()\[\]{}<>\"'`|=&?*]+")
_CHINESE = re.compile(r"[\u4e00-\u9fff]+")
_PLAIN = re.compile(
    r"(?:[A-Za-z]?[a-z]{1,24}|[A-Z]{1,15}"
    r"|(?:[A-Z]{1,6}|[a-z]{2,14})?(?:[A-Z][a-z]{2,14}){1,6}[A-Z]{0,4})[+#]{0,2}"  # OOMKilled, livenessProbe, PostgreSQL
)
_NUMBER = re.compile(r"\d{1,4}")
_VERSION = re.compile(r"v?\d{1,3}\.\d{1,3}")
_EXCEPTION = re.compile(r"(?:[a-z]{2,12}\.){0,5}[A-Z][A-Za-z]{2,40}(?:Exception|Error|Panic)")
_WITH_DIGITS = frozenset({"utf8", "ipv4", "ipv6", "sha256", "base64", "x86", "amd64", "arm64", "http2", "k8s", "log4j"})
_CLOSED = ".:!-_/\\@~^%$"
_LONG_NAME = 4

_PUBLIC = frozenset(
    """
    alpine apache argo argocd calico cassandra celery cert-manager cilium clickhouse consul containerd coredns cri-o
    debian django docker elasticsearch envoy etcd fastapi flannel flask flux fluentd gin golang grafana gunicorn haproxy
    helm ingress-nginx istio java jenkins jvm kafka keycloak kibana kube-proxy kubelet linkerd linux logstash loki
    mariadb memcached minio mongo mongodb mysql nats nginx node nodejs openssl opensearch php postgres postgresql
    prometheus puma python rabbitmq rails redis ruby rust sidekiq spring sqlite tempo tomcat traefik ubuntu uvicorn
    vault velero zookeeper
    """.split()  # noqa: SIM905
)
_TERMS = """
    access allowed already attempt back bad be been cannot closed code config connection connections container count
    cpu creating crash deadline default denied descriptor device does dns down exceeded exec exist exit failed file
    files forbidden format found full get host image in init invalid io is kill lack left liveness lookup max memory
    missing mode mount name network no not null of off on only open out over password permission pid pod pointer policy
    pool port probe proxy pull quota rate read readiness refused reset resource resources retry root run runtime
    scheduled secret security server service set socket space stack startup state such system time timed timeout to
    token too unavailable unknown unreachable up use user volume wait wrong write zone kube
    """.split()  # noqa: SIM905


def leaving(question: str, private: Collection[str]) -> str:
    """What of `question` may be searched for, in at most MAX_CHARS characters; empty when nothing may.

    `private` are the names that were seen in the cluster.
    """
    text = unicodedata.normalize("NFKC", redact(question)).replace(MASK, " ")
    text = redact(_URL.sub(" ", text)).replace(MASK, " ")
    hidden = _hidden(private)
    kept: list[str] = []
    for word in _WORD.findall(text):
        for part in _spoken(word):
            if _may_leave(part, hidden) and part not in kept:
                kept.append(part)
    while kept and (len(kept) > MAX_WORDS or len(" ".join(kept)) > MAX_CHARS):
        kept.pop()
    return " ".join(kept)


def _spoken(word: str) -> list[str]:
    """Runs of Chinese, and what is between them."""
    word = word.strip(_CLOSED)
    return [part for part in re.split(f"({_CHINESE.pattern})", word) if part]


def _may_leave(word: str, hidden: frozenset[str]) -> bool:
    word = word.strip(_CLOSED)
    if (len(word) < 2 and not word.isdigit() and word.isascii()) or not _unnamed(word.casefold(), hidden):
        return False
    if _CHINESE.fullmatch(word):
        return len(word) <= 30
    if any(pattern.fullmatch(word) for pattern in (_PLAIN, _NUMBER, _VERSION)):
        return True
    if _EXCEPTION.fullmatch(word) or word.casefold() in _WITH_DIGITS or word.casefold() in _PUBLIC:
        return True
    parts = re.split(r"[-_]", word.casefold())
    return len(parts) > 1 and all(part in _vocabulary() for part in parts)


def _unnamed(word: str, hidden: frozenset[str]) -> bool:
    """Whether no private name is in the word."""
    if word in _PUBLIC:
        return True
    parts = {word, *re.split(r"[^a-z0-9\u4e00-\u9fff]+", word)}
    return not (parts & hidden) and not any(len(name) >= _LONG_NAME and name in word for name in hidden)


def _hidden(private: Collection[str]) -> frozenset[str]:
    """The names, and their parts that are no words of everybody's: `shop-cart-7d4f` hides shop and cart."""
    found: set[str] = set()
    for name in private:
        name = unicodedata.normalize("NFKC", name).casefold()
        found |= {name, *(part for part in re.split(r"[^a-z0-9\u4e00-\u9fff]+", name) if len(part) > 2)}
    return frozenset(found - _vocabulary() - _PUBLIC - {""})


@cache
def _vocabulary() -> frozenset[str]:
    labels = " ".join(name for item in CauseClass for name in names_of(item))
    return frozenset([*_TERMS, *re.findall(r"[a-z]+", labels.casefold())])
