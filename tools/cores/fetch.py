"""Fetch a core from an allowed host, without letting a caller reach any other place through us.

The operator lists hosts (`core.url_hosts`). The name is resolved once, each address is checked, and the connection
goes to the checked address: a name that resolves differently a moment later gains nothing. Redirects are not
followed, no proxy and no credentials of this machine are used.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from pathlib import Path

import httpx

from errors import Forbidden, InputTooLarge, InvalidInput, ToolFailed, ToolTimeout
from settings import CoreSettings
from tools.cores.streams import create_private
from tools.trust import trusted

_CHUNK = 1 << 20
_TRANSFER_SECONDS = 1800.0
_TIMEOUT = httpx.Timeout(30.0, connect=10.0)


async def fetch(url: str, target: Path, settings: CoreSettings) -> None:
    """Download `url` to the new file `target`.

    Raises InvalidInput (no usable URL, or the server answered with anything but the file), Forbidden (scheme, host or
    address that is not allowed), InputTooLarge, ToolFailed, ToolTimeout.
    """
    parsed = _allowed(url, settings)
    addresses = await _addresses(parsed)
    try:
        async with asyncio.timeout(_TRANSFER_SECONDS):
            for address in addresses[:-1]:
                try:
                    return await _download(parsed, address, target, settings.max_bytes)
                except httpx.ConnectError:  # such as ::1 of a server that listens on 127.0.0.1 only
                    continue
            await _download(parsed, addresses[-1], target, settings.max_bytes)
    except TimeoutError:
        raise ToolTimeout(f"{parsed.host} did not send the core within {_TRANSFER_SECONDS:g} s") from None
    except httpx.TimeoutException:
        raise ToolTimeout(f"{parsed.host} did not answer in time") from None
    except httpx.HTTPError as error:
        raise ToolFailed(f"fetching the core from {parsed.host} failed: {type(error).__name__}") from None


async def _download(url: httpx.URL, address: str, target: Path, limit: int) -> None:
    """GET `url` from exactly `address`; the certificate is checked against the name."""
    headers = {"Host": url.netloc.decode("ascii"), "Accept-Encoding": "identity"}
    async with (
        httpx.AsyncClient(timeout=_TIMEOUT, follow_redirects=False, trust_env=False, verify=trusted()) as client,
        client.stream(
            "GET",
            url.copy_with(host=address, fragment=None),
            headers=headers,
            extensions={"sni_hostname": url.host},
        ) as response,
    ):
        if response.is_redirect:
            raise InvalidInput(f"{url.host} answered with a redirect, which is not followed; give the final URL")
        if response.status_code != 200:
            raise InvalidInput(f"{url.host} answered {response.status_code}; a core is expected with 200")
        await _save(response, target, limit)


def _allowed(url: str, settings: CoreSettings) -> httpx.URL:
    """The URL, when its scheme, host and port are allowed."""
    try:
        parsed = httpx.URL(url)
    except (httpx.InvalidURL, TypeError):
        raise InvalidInput("the core's URL cannot be read") from None
    if parsed.scheme not in settings.url_schemes:
        raise Forbidden(f"cores are fetched by {' or '.join(settings.url_schemes)} only (core.url_schemes)")
    if parsed.userinfo:
        raise InvalidInput("a URL with a user name or password is not accepted")
    if not parsed.host:
        raise InvalidInput("the core's URL has no host")
    default = {"https": 443, "http": 80}[parsed.scheme]
    port = parsed.port or default
    names = {f"{parsed.host}:{port}", f"[{parsed.host}]:{port}"}
    if port == default:
        names |= {parsed.host, f"[{parsed.host}]"}
    if not names & {host.lower() for host in settings.url_hosts}:
        raise Forbidden("this host is not one that cores may be fetched from (core.url_hosts)")
    return parsed


async def _addresses(url: httpx.URL) -> list[str]:
    """Addresses of the host that may be connected to; all of them must be allowed."""
    try:
        return [str(ipaddress.ip_address(url.host))]  # listed by the operator as it stands
    except ValueError:
        pass
    try:
        infos = await asyncio.get_running_loop().getaddrinfo(url.host, None, type=socket.SOCK_STREAM)
    except OSError:
        raise ToolFailed(f"the host {url.host} cannot be resolved") from None
    addresses = [ipaddress.ip_address(str(info[4][0]).partition("%")[0]) for info in infos]
    for address in addresses:
        if not _permitted(address, url.host):
            raise Forbidden(
                f"{url.host} resolves to {address}, which is never fetched from by name; "
                "list the address itself in core.url_hosts if it is meant"
            )
    if not addresses:
        raise ToolFailed(f"the host {url.host} has no address")
    return list(dict.fromkeys(map(str, addresses)))


def _permitted(address: ipaddress.IPv4Address | ipaddress.IPv6Address, host: str) -> bool:
    """May a listed name lead to `address`?

    Private addresses may be: object stores in clusters have them, and the operator listed the name. The machine
    itself and link-local ones (cloud metadata) may not, except for the name `localhost`.
    """
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped:
        address = address.ipv4_mapped
    if address.is_loopback:
        return host == "localhost"
    return not (address.is_link_local or address.is_multicast or address.is_unspecified or address.is_reserved)


async def _save(response: httpx.Response, target: Path, limit: int) -> None:
    length = response.headers.get("content-length", "")
    too_large = InputTooLarge(f"the core is larger than core.max_bytes ({limit} bytes)")
    if length.isdigit() and int(length) > limit:
        raise too_large
    size = 0
    with await asyncio.to_thread(create_private, target) as file:
        async for chunk in response.aiter_raw(_CHUNK):
            size += len(chunk)
            if size > limit:
                raise too_large
            await asyncio.to_thread(file.write, chunk)
        await asyncio.to_thread(file.flush)
