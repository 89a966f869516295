"""A real S3-compatible server (versitygw, `go install github.com/versity/versitygw/cmd/versitygw`) on a folder, and a
TCP proxy that does to its traffic what networks and crowded stores do.

With PARAMEDIC_MINIO it is the MinIO whose program that names (`go install github.com/minio/minio@latest`).
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from settings import StoreSettings

ACCESS, SECRET = "AKIAPARAMEDICTEST", "canary-secret-of-the-store"
BUCKET = "cores"
DOMAIN = "s3.test"
"""No name server knows it: a proxy stands in for one."""
MINIO = os.environ.get("PARAMEDIC_MINIO")


def missing() -> str | None:
    """Why there is no such server here."""
    return None if shutil.which(MINIO or "versitygw") else "versitygw is not installed: a real S3-compatible server"


class S3Server:
    """Keeps its data and its port over restarts."""

    def __init__(
        self,
        folder: Path,
        *,
        certificate: tuple[Path, Path] | None = None,
        domain: str | None = None,
        host: str = "127.0.0.1",
        region: str = "us-east-1",
    ) -> None:
        """With a `domain`, buckets are hosts below it. It listens on `host`, and knows one `region` alone."""
        self.folder, self.port, self._host = folder, _free_port(), host
        self._certificate, self._domain, self._region = certificate, domain, region
        self._process: subprocess.Popen[bytes] | None = None
        (folder / BUCKET).mkdir(parents=True, exist_ok=True)

    @property
    def endpoint(self) -> str:
        host = "localhost" if self._host == "127.0.0.1" else self._host  # the name in the certificate
        return f"http{'s' if self._certificate else ''}://{host}:{self.port}"

    def start(self) -> S3Server:
        command, environment, alive = self._minio(MINIO) if MINIO else self._versitygw()
        self._process = subprocess.Popen(
            command,
            env={"PATH": os.environ["PATH"], **environment},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        for _ in range(1500):
            with contextlib.suppress(httpx.HTTPError):
                if httpx.get(f"{self.endpoint}{alive}", verify=False, timeout=10, trust_env=False).is_success:
                    return self
            assert self._process.poll() is None, "the S3 server ended"
            time.sleep(0.05)
        raise AssertionError("the S3 server does not answer")

    def _versitygw(self) -> tuple[list[str], dict[str, str], str]:
        """Command, environment, and the path that answers when it is up."""
        more = ["--cert", str(self._certificate[0]), "--key", str(self._certificate[1])] if self._certificate else []
        more += ["--virtual-domain", self._domain] if self._domain else []
        where = ["--port", f"{self._host}:{self.port}", "--region", self._region]
        command = ["versitygw", *where, "--quiet", "--health", "/alive", *more, "posix", str(self.folder)]
        return command, {"ROOT_ACCESS_KEY": ACCESS, "ROOT_SECRET_KEY": SECRET}, "/alive"

    def _minio(self, program: str) -> tuple[list[str], dict[str, str], str]:
        certificates = self.folder.with_name(f"{self.folder.name}-certificates")
        certificates.mkdir(exist_ok=True)
        if self._certificate:
            shutil.copy(self._certificate[0], certificates / "public.crt")
            shutil.copy(self._certificate[1], certificates / "private.key")
        command = [program, "server", str(self.folder), "--address", f"{self._host}:{self.port}"]
        environment = {"MINIO_ROOT_USER": ACCESS, "MINIO_ROOT_PASSWORD": SECRET, "MINIO_SITE_REGION": self._region}
        environment |= {"MINIO_DOMAIN": self._domain} if self._domain else {}
        return [*command, "--certs-dir", str(certificates)], environment, "/minio/health/ready"

    def kill(self) -> None:
        """SIGKILL: nothing is tidied up."""
        if self._process is not None:
            self._process.send_signal(signal.SIGKILL)
            self._process.wait(60)
            self._process = None

    def settings(self, **more: Any) -> StoreSettings:
        given = {
            "url": f"s3://{BUCKET}",
            "endpoint": self.endpoint,
            "access_key": ACCESS,
            "secret_key": SECRET,
            "part_bytes": 5 << 20,
            "timeout": 60,
        }
        return StoreSettings.model_validate({**given, **more})


class Proxy:
    """Between a client and the server. `mode`: pass, corrupt (a byte of every large body), busy (503 SlowDown to
    every request), slow (every piece waits), cut (the connection ends after `cut_after` bytes of the client)."""

    def __init__(self, port: int) -> None:
        self._target = port
        self.mode, self.cut_after = "pass", 0
        self.heads: list[bytes] = []
        self.bytes_up = 0
        self.port = 0
        self._tasks: set[asyncio.Task[None]] = set()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Proxy]:
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        try:
            yield self
        finally:
            server.close()
            await asyncio.sleep(0.05)  # what was just accepted has a task by then
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)
            await asyncio.sleep(0)  # transports close in the loop's next round

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        try:
            if self.mode == "busy":
                await reader.readuntil(b"\r\n\r\n")
                body = b"<Error><Code>SlowDown</Code><Message>Please reduce your request rate.</Message></Error>"
                writer.write(b"HTTP/1.1 503 Slow Down\r\nConnection: close\r\nContent-Length: %d\r\n\r\n" % len(body))
                writer.write(body)
                await writer.drain()
                return
            up_reader, up_writer = await asyncio.open_connection("127.0.0.1", self._target)
            down = asyncio.ensure_future(self._pipe(up_reader, writer))
            try:
                await self._up(reader, up_writer)
                await down
            finally:
                down.cancel()
                await asyncio.gather(down, return_exceptions=True)
                up_writer.transport.abort()
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        except asyncio.CancelledError:
            writer.transport.abort()
            raise
        finally:
            writer.close()

    async def _up(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        passed = 0
        while data := await reader.read(1 << 16):
            self.bytes_up += len(data)
            passed += len(data)
            self.heads += [data.partition(b"\r\n\r\n")[0]] if b" HTTP/1.1\r\n" in data[:4096] else []
            if self.mode == "corrupt" and len(data) > 32_000:  # not a request's head
                data = data[:30_000] + bytes([data[30_000] ^ 1]) + data[30_001:]
            if self.mode == "slow":
                await asyncio.sleep(0.002)
            if self.mode == "cut" and passed > self.cut_after:
                writer.transport.abort()
                raise ConnectionResetError
            writer.write(data)
            await writer.drain()
        writer.write_eof()

    async def _pipe(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(1 << 16):
            writer.write(data)
            await writer.drain()


@asynccontextmanager
async def connecting(port: int) -> AsyncIterator[str]:
    """A proxy that answers every CONNECT with a way to `port`, whatever host was asked for; its address."""
    opened: list[asyncio.StreamWriter] = []
    serving: set[asyncio.Task[None] | None] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        serving.add(asyncio.current_task())
        opened.append(writer)
        await reader.readuntil(b"\r\n\r\n")
        there, back = await asyncio.open_connection("127.0.0.1", port)
        opened.append(back)
        writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")

        async def pipe(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
            with contextlib.suppress(ConnectionError):
                while data := await source.read(1 << 16):
                    target.write(data)
                    await target.drain()
            target.close()

        await asyncio.gather(pipe(reader, back), pipe(there, writer))

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        for kept in opened:  # by a client that would use them again
            if not kept.transport.is_closing():
                kept.transport.abort()
        await asyncio.gather(*(task for task in serving if task is not None), return_exceptions=True)


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def self_signed(folder: Path) -> tuple[Path, Path]:
    """A certificate for localhost that is its own authority, and its key, as PEM files."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(
            x509.SubjectAlternativeName([x509.DNSName("localhost"), x509.DNSName(f"{BUCKET}.{DOMAIN}")]),
            critical=False,
        )
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    paths = folder / "store.pem", folder / "store.key"
    paths[0].write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    form = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    paths[1].write_bytes(key.private_bytes(serialization.Encoding.PEM, *form))
    return paths
