"""Names of objects. What they are made of comes from the outside: nothing of it can leave its place or be two things.

    <prefix>/<namespace>/<workload>/<date>/<sha256>.core.zst[.enc]   a core; the sha256 is of the core inside
    <prefix>/<namespace>/<workload>/<date>/<id>.json                 its record, which names its objects
    <prefix>/build-id/<xx>/<rest>/<sha256>.zst[.enc]                 an executable or library, once for all cores

Two files with one build-id and different content are two objects: nobody can put a false library in another's place.
"""

from __future__ import annotations

import hashlib
import re

from errors import InvalidInput
from incidents.collected import CollectedCore

MAX_BYTES = 1024
"""Of a key, as S3 has it."""
CORE = ".core.zst"
ENCRYPTED = ".enc"
BUILD_IDS = "build-id"
_SEGMENT = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,127}")
_BUILD_ID = re.compile(r"[0-9a-f]{4,128}")
_KEPT = 80


def segment(name: str) -> str:
    """`name` as one part of a key; a name that had to be changed ends with a digest of the original."""
    if _SEGMENT.fullmatch(name) and len(name) <= _KEPT:
        return name
    plain = re.sub(r"[^A-Za-z0-9._-]", "_", name)[:_KEPT].lstrip(".") or "_"
    return f"{plain}-{hashlib.sha256(name.encode('utf-8', 'surrogatepass')).hexdigest()[:8]}"


def folder_of(record: CollectedCore, prefix: str) -> str:
    """Where the objects of `record` are. A host outside Kubernetes is `_host`, which no namespace can be named."""
    origin = record.origin
    if origin is None:
        namespace, workload = "_host", record.node
    else:
        namespace, workload = origin.namespace, origin.owner.name if origin.owner else origin.pod
    date = (record.dumped_at or record.collected_at).strftime("%Y-%m-%d")
    return f"{prefix}/{segment(namespace)}/{segment(workload)}/{date}"


def core_key(record: CollectedCore, prefix: str, sha256: str, encrypted: bool) -> str:
    """Of a core whose plain bytes have `sha256`."""
    return checked(f"{folder_of(record, prefix)}/{sha256}{CORE}{ENCRYPTED if encrypted else ''}")


def record_key(record: CollectedCore, prefix: str) -> str:
    return checked(f"{folder_of(record, prefix)}/{segment(record.id)}.json")


def build_key(build_id: str, prefix: str, sha256: str, encrypted: bool) -> str:
    """Of an executable or library whose plain bytes have `sha256`. Raises InvalidInput for what is no build-id."""
    if not _BUILD_ID.fullmatch(build_id):
        raise InvalidInput(f"{build_id[:100]!a} is no build-id")
    place = f"{prefix}/{BUILD_IDS}/{build_id[:2]}/{build_id[2:]}"
    return checked(f"{place}/{sha256}.zst{ENCRYPTED if encrypted else ''}")


def checked(key: str) -> str:
    """`key`, when each of its parts is a plain name. Raises InvalidInput."""
    if len(key) > MAX_BYTES or not all(_SEGMENT.fullmatch(part) for part in key.split("/")):
        raise InvalidInput(f"{key[:200]!a} is not a possible key of the store")
    return key


def below(key: str, prefix: str) -> str:
    """`key`, when it is a possible one below `prefix`: what else is in the bucket is not ours. Raises InvalidInput."""
    if not checked(key).startswith(f"{prefix}/"):
        raise InvalidInput(f"keys of this store begin with {prefix}/")
    return key
