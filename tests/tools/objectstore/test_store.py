"""The store, as a folder and as a real S3-compatible server: what is said to be stored is, and nothing else."""

from __future__ import annotations

import hashlib
import os
import ssl
import time
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from errors import InputTooLarge, InvalidInput, NotFound, ParamedicError
from settings import StoreSettings
from tests.standins.s3 import ACCESS, BUCKET, DOMAIN, SECRET, Proxy, S3Server, connecting, missing, self_signed
from tools.objectstore.failures import Damaged, StoreDenied, StoreUnreachable
from tools.objectstore.store import ObjectStore


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


async def _all(stream: AsyncIterator[bytes]) -> bytes:
    return b"".join([chunk async for chunk in stream])


def _file(folder: Path, size: int) -> tuple[Path, bytes]:
    data = os.urandom(size)
    path = folder / "file"
    path.write_bytes(data)
    return path, data


@pytest.mark.parametrize("size", [0, 1, 70_000, (5 << 20) + 1, 11 << 20])
async def test_what_was_put_is_got(store_settings: StoreSettings, tmp_path: Path, size: int) -> None:
    store = ObjectStore(store_settings)
    path, data = _file(tmp_path, size)
    key = f"{store.prefix}/a/b/{size}.core.zst"
    done = await store.put(path, key, sha256=_sha256(data), metadata={"namespace": "prod", "odd": "ü\r\nx: y"})
    assert (done.size, done.sha256) == (size, _sha256(data))
    info = await store.head(key)
    assert (info.key, info.size) == (key, size)
    if store_settings.endpoint:
        assert done.by == "checksum of the store"
        assert info.metadata["namespace"] == "prod"
        assert info.metadata["odd"] == "___x:_y"
    assert await _all(store.get(key)) == data
    assert [found.key async for found in store.list(f"{store.prefix}/a")] == [key]
    with pytest.raises(InputTooLarge):
        await _all(store.get(key, max_bytes=size - 1))
    await store.delete([key, key])
    with pytest.raises(NotFound, match="no such object"):
        await store.head(key)
    with pytest.raises(NotFound, match="no such object"):
        await _all(store.get(key))
    assert [found async for found in store.list()] == []


async def test_bytes_are_replaced_and_a_wrong_file_is_not_stored(store_settings: StoreSettings, tmp_path: Path) -> None:
    store = ObjectStore(store_settings)
    key = f"{store.prefix}/record.json"
    await store.put(b"one", key, sha256=_sha256(b"one"))
    await store.put(b"second", key, sha256=_sha256(b"second"))
    assert await _all(store.get(key)) == b"second"
    for size in (10, 6 << 20):
        path, _ = _file(tmp_path, size)
        with pytest.raises(InvalidInput, match="not the one that was to be stored"):
            await store.put(path, f"{store.prefix}/wrong", sha256=_sha256(b"other"))
    assert [found.key async for found in store.list()] == [key]
    path.unlink()
    with pytest.raises(InvalidInput, match="cannot be read"):
        await store.put(path, f"{store.prefix}/gone", sha256=_sha256(b""))


@pytest.mark.parametrize("key", ["../x", "a//b", "/a", "a/../b", "a/.hidden", "a b", "a\0", "a/", "x" * 1025, "ü", ""])
async def test_odd_keys_reach_no_store(store_settings: StoreSettings, key: str) -> None:
    store = ObjectStore(store_settings)
    with pytest.raises(InvalidInput, match="not a possible key"):
        await store.put(b"", key, sha256=_sha256(b""))
    with pytest.raises(InvalidInput, match="not a possible key"):
        await store.head(key)


async def test_a_link_works_for_its_time_and_only_in_our_part(server: S3Server) -> None:
    store = ObjectStore(server.settings(prefix="ours"))
    await store.put(b"core", "ours/a.core.zst", sha256=_sha256(b"core"))
    link = await store.presign("ours/a.core.zst", 60)
    assert httpx.get(link, timeout=60).content == b"core"
    assert SECRET not in link
    assert httpx.get(link.replace("a.core", "b.core"), timeout=60).status_code == 403
    brief = await store.presign("ours/a.core.zst", 1)
    for _ in range(600):
        if httpx.get(brief, timeout=60).status_code == 403:
            break
        time.sleep(0.1)
    else:
        raise AssertionError("a link of a second is valid after a minute")
    with pytest.raises(NotFound):
        await store.presign("ours/none.core.zst", 60)
    with pytest.raises(InvalidInput, match="begin with ours/"):
        await store.presign("others/a", 60)


async def test_a_server_killed_in_the_middle_goes_on_where_it_was(tmp_path: Path, server: S3Server) -> None:
    path, data = _file(tmp_path, 23 << 20)  # five parts
    own = S3Server(tmp_path / "own").start()
    states: list[str] = []

    async def remember(state: str) -> None:
        states.append(state)
        if len(states) == 3:
            own.kill()

    try:
        with pytest.raises(StoreUnreachable):
            await ObjectStore(own.settings()).put(
                path, "paramedic/big", sha256=_sha256(data), metadata={"pod": "p-0"}, remember=remember
            )
        own.start()
        assert len(states) == 3
        async with Proxy(own.port).running() as proxy:
            store = ObjectStore(own.settings(endpoint=f"http://127.0.0.1:{proxy.port}"))
            await store.put(path, "paramedic/big", sha256=_sha256(data), known=states[-1], remember=remember)
            assert proxy.bytes_up < 14 << 20  # three parts of five
        store = ObjectStore(own.settings())
        assert _sha256(await _all(store.get("paramedic/big"))) == _sha256(data)
        # killed after the store had finished, before that was noted; then with an upload that nobody knows
        for known in (states[-1], states[-1].replace('"id":"', '"id":"0')):
            await store.put(path, "paramedic/big", sha256=_sha256(data), known=known, remember=remember)
        assert _sha256(await _all(store.get("paramedic/big"))) == _sha256(data)
        assert (await store.head("paramedic/big")).size == len(data)
    finally:
        own.kill()


async def test_an_upload_is_not_continued_with_other_bytes_and_can_be_given_up(
    tmp_path: Path, server: S3Server
) -> None:
    store = ObjectStore(server.settings(prefix="other"))
    states: list[str] = []

    async def stop(state: str) -> None:
        states.append(state)
        if len(states) == 2:
            raise InterruptedError

    path, first = _file(tmp_path, 6 << 20)
    with pytest.raises(InterruptedError):
        await store.put(path, "other/a", sha256=_sha256(first), remember=stop)
    path, second = _file(tmp_path, 7 << 20)
    await store.put(path, "other/a", sha256=_sha256(second), known=states[-1])
    assert await _all(store.get("other/a")) == second
    await store.abort(states[-1])
    path.write_bytes(first)
    await store.put(path, "other/a", sha256=_sha256(first), known=states[-1])
    assert await _all(store.get("other/a")) == first
    await store.put(path, "other/a", sha256=_sha256(first), known="{damaged")


async def test_keys_can_come_from_the_environment(
    tmp_path: Path, server: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", ACCESS)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    store = ObjectStore(server.settings(access_key=None, secret_key=None, prefix="environment"))
    for size in (10, 11 << 20):
        path, data = _file(tmp_path, size)
        done = await store.put(path, "environment/a", sha256=_sha256(data), metadata={"pod": "p-0"})
        assert done.by == ("checksum of the store" if size == 10 else "read again")
        assert (await store.head("environment/a")).metadata["pod"] == "p-0"
        assert await _all(store.get("environment/a")) == data


async def test_wrong_keys_and_buckets_are_one_sentence_without_secrets(tmp_path: Path, server: S3Server) -> None:
    path, data = _file(tmp_path, 6 << 20)
    for given, error, text in (
        ({"secret_key": "canary-wrong"}, StoreDenied, "refused .SignatureDoesNotMatch."),
        ({"access_key": "AKIACANARY"}, StoreDenied, "refused"),
        ({"url": "s3://no-such-bucket"}, NotFound, "the bucket does not exist"),
        ({"endpoint": "http://127.0.0.1:9"}, StoreUnreachable, "cannot be reached"),
    ):
        store = ObjectStore(server.settings(**given))
        for source, digest in ((path, _sha256(data)), (b"small", _sha256(b"small"))):
            with pytest.raises(error, match=text) as caught:
                await store.put(source, "paramedic/x", sha256=digest)
            said = f"{caught.value!r} {caught.value}"
            assert "\n" not in said
            assert not any(secret in said for secret in (SECRET, ACCESS, "CANARY", "canary", "AWSAccess"))
        with pytest.raises(error):
            [found async for found in store.list()]


async def test_bytes_changed_on_their_way_are_not_stored(tmp_path: Path, server: S3Server) -> None:
    async with Proxy(server.port).running() as proxy:
        store = ObjectStore(server.settings(endpoint=f"http://127.0.0.1:{proxy.port}", prefix="changed"))
        for size in (200_000, 11 << 20):
            path, data = _file(tmp_path, size)
            proxy.mode = "corrupt"
            with pytest.raises((Damaged, StoreUnreachable)) as caught:
                await store.put(path, "changed/a", sha256=_sha256(data))
            assert isinstance(caught.value, Damaged), caught.value
            assert [found async for found in store.list("changed")] == []
            proxy.mode = "pass"
            await store.put(path, "changed/a", sha256=_sha256(data))
            await store.delete(["changed/a"])


async def test_a_crowded_slow_or_broken_way_is_worth_another_attempt(tmp_path: Path, server: S3Server) -> None:
    path, data = _file(tmp_path, 6 << 20)
    async with Proxy(server.port).running() as proxy:
        store = ObjectStore(server.settings(endpoint=f"http://127.0.0.1:{proxy.port}", prefix="crowded"))
        for mode in ("busy", "cut"):
            proxy.mode, proxy.cut_after = mode, 1 << 20
            with pytest.raises(StoreUnreachable) as caught:
                await store.put(path, "crowded/a", sha256=_sha256(data))
            if mode == "busy":
                assert "SlowDown" in str(caught.value)
                with pytest.raises(StoreUnreachable, match="SlowDown"):
                    await store.put(b"", "crowded/b", sha256=_sha256(b""))
        proxy.mode = "slow"
        await store.put(path, "crowded/a", sha256=_sha256(data))
        proxy.mode = "pass"
        assert await _all(store.get("crowded/a")) == data


async def test_a_clock_that_is_wrong_is_named(
    tmp_path: Path, server: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    from datetime import UTC, datetime

    from tools.objectstore import multipart

    class Late(datetime):
        @classmethod
        def now(cls, tz: object = None) -> datetime:  # type: ignore[override]
            return datetime(2020, 1, 1, tzinfo=UTC)

    monkeypatch.setattr(multipart, "datetime", Late)
    path, data = _file(tmp_path, 6 << 20)
    with pytest.raises(StoreDenied, match="clock differs"):
        await ObjectStore(server.settings()).put(path, "paramedic/late", sha256=_sha256(data))


async def test_a_folder_that_is_not_there_or_full_is_no_loss(tmp_path: Path) -> None:
    gone = ObjectStore(StoreSettings(url=(tmp_path / "gone").as_uri()))
    with pytest.raises(StoreUnreachable, match="is it mounted"):
        await gone.put(b"x", "paramedic/x", sha256=_sha256(b"x"))
    with pytest.raises(StoreUnreachable, match="is it mounted"):
        await gone.head("paramedic/x")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "paramedic").symlink_to("/dev/full")
    with pytest.raises(StoreUnreachable, match="failed"):
        await ObjectStore(StoreSettings(url=(tmp_path / "full").as_uri())).put(
            b"x", "paramedic/x", sha256=_sha256(b"x")
        )
    with pytest.raises(InvalidInput, match="the file is "):
        (tmp_path / "gone").mkdir()
        await gone.put(b"x", "paramedic/x", sha256=_sha256(b"x"))
        await gone.presign("paramedic/x", 60)


@pytest.mark.parametrize(
    ("given", "text"),
    [
        ({"endpoint": "http://store.example.com"}, "allow_http"),
        ({"secret_key": None}, "belong together"),
        ({"secret_key_file": "/nonexistent"}, "secret_key_file cannot be read"),
        ({"access_key": None, "secret_key": None, "session_token": "t"}, "session_token belongs to"),
        ({"ca": "/etc/hostname"}, "store.ca is no file of PEM"),
        ({"encryption_key_file": "/nonexistent"}, "encryption_key_file cannot be read"),
    ],
)
def test_wrong_settings_are_one_sentence(given: dict[str, object], text: str) -> None:
    settings = StoreSettings.model_validate(
        {"url": f"s3://{BUCKET}", "access_key": ACCESS, "secret_key": SECRET, **given}
    )
    with pytest.raises(InvalidInput, match=text):
        ObjectStore(settings)


async def test_buckets_can_be_hosts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if (reason := missing()) is not None:
        pytest.skip(reason)
    own = S3Server(tmp_path / "own", domain="s3.test").start()
    for name in ("HTTP_PROXY", "http_proxy"):  # instead of a name server
        monkeypatch.setenv(name, f"http://127.0.0.1:{own.port}")
    try:
        store = ObjectStore(own.settings(endpoint="http://s3.test", path_style=False, allow_http=True))
        for size in (10, 6 << 20):
            path, data = _file(tmp_path, size)
            await store.put(path, "paramedic/hosted", sha256=_sha256(data))
            assert await _all(store.get("paramedic/hosted")) == data
        assert (await store.presign("paramedic/hosted", 60)).startswith(f"http://{BUCKET}.s3.test/paramedic/hosted?")
    finally:
        own.kill()


async def test_a_host_of_its_own_over_tls_in_another_region(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As AWS, COS and OSS are addressed, all at once; the server refuses a wrong region."""
    if (reason := missing()) is not None:
        pytest.skip(reason)
    certificate, key = self_signed(tmp_path)
    own = S3Server(tmp_path / "own", certificate=(certificate, key), domain=DOMAIN, region="ap-guangzhou").start()
    given = {"endpoint": f"https://{DOMAIN}", "region": "ap-guangzhou", "path_style": False, "ca": certificate}
    try:
        async with connecting(own.port) as proxy:
            monkeypatch.setenv("HTTPS_PROXY", proxy)
            store = ObjectStore(own.settings(**given))
            for size in (10, 11 << 20):
                path, data = _file(tmp_path, size)
                done = await store.put(path, "paramedic/a", sha256=_sha256(data), metadata={"pod": "p-0"})
                assert done.sha256 == _sha256(data)
                assert await _all(store.get("paramedic/a")) == data
            link = await store.presign("paramedic/a", 60)
            assert link.startswith(f"https://{BUCKET}.{DOMAIN}/paramedic/a?")
            assert "ap-guangzhou" in link
            async with httpx.AsyncClient(verify=ssl.create_default_context(cafile=certificate), timeout=60) as client:
                assert (await client.get(link)).content == data
            for source, digest in ((path, _sha256(data)), (b"small", _sha256(b"small"))):
                with pytest.raises(ParamedicError) as wrong:
                    await ObjectStore(own.settings(**given | {"region": "eu-west-1"})).put(source, "b", sha256=digest)
                assert SECRET not in str(wrong.value) and "\n" not in str(wrong.value)
    finally:
        own.kill()


async def test_the_token_of_temporary_keys_is_in_every_request_and_signed(tmp_path: Path, server: S3Server) -> None:
    """This server issues none and refuses all: that one is taken is not shown here."""
    (tmp_path / "token").write_text("canary-session-token\n")
    path, data = _file(tmp_path, 6 << 20)
    async with Proxy(server.port).running() as proxy:
        given = {"endpoint": f"http://127.0.0.1:{proxy.port}", "session_token_file": tmp_path / "token"}
        store = ObjectStore(server.settings(**given))
        for source, digest in ((path, _sha256(data)), (b"small", _sha256(b"small"))):
            with pytest.raises(StoreDenied, match=r"refused .InvalidToken.") as denied:
                await store.put(source, "paramedic/t", sha256=digest)
            assert "canary" not in str(denied.value)
    heads = [head.lower() for head in proxy.heads]
    assert len(heads) >= 2
    for head in heads:
        assert b"x-amz-security-token: canary-session-token" in head
        assert b"x-amz-security-token" in head.partition(b"signedheaders=")[2].partition(b",")[0]


async def test_every_body_is_sent_with_a_checksum(tmp_path: Path, server: S3Server) -> None:
    async with Proxy(server.port).running() as proxy:
        store = ObjectStore(server.settings(endpoint=f"http://127.0.0.1:{proxy.port}"))
        for size in (10, 6 << 20):
            path, data = _file(tmp_path, size)
            await store.put(path, "paramedic/sum", sha256=_sha256(data))
    bodies = [head.lower() for head in proxy.heads if head.startswith(b"PUT")]
    assert len(bodies) >= 3
    for head in bodies:
        assert b"content-md5: " in head or b"x-amz-checksum-sha256: " in head or b"x-amz-content-sha256: " in head, head
        assert b"unsigned-payload" not in head and b"streaming-" not in head, "COS and OSS know no trailers"


async def test_tls_is_checked_against_the_authority_of_the_settings(tmp_path: Path) -> None:
    if (reason := missing()) is not None:
        pytest.skip(reason)
    certificate, key = self_signed(tmp_path)
    own = S3Server(tmp_path / "own", certificate=(certificate, key)).start()
    path, data = _file(tmp_path, 6 << 20)
    try:
        store = ObjectStore(own.settings(ca=certificate))
        for source, digest in ((path, _sha256(data)), (b"small", _sha256(b"small"))):
            await store.put(source, "paramedic/x", sha256=digest)
            with pytest.raises(StoreUnreachable):
                await ObjectStore(own.settings()).put(source, "paramedic/y", sha256=digest)
        assert [found.key async for found in store.list()] == ["paramedic/x"]
    finally:
        own.kill()
