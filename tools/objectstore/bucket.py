"""A bucket of an S3-compatible store, as the settings describe it."""

from __future__ import annotations

import ipaddress
import ssl
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from obstore.store import S3Store
from pydantic import SecretStr

from errors import InvalidInput
from settings import StoreSettings
from tools.objectstore.multipart import Multipart
from tools.objectstore.signing import Keys

_RETRIES: Any = {
    "max_retries": 2,
    "retry_timeout": timedelta(seconds=20),
    "backoff": {"init_backoff": timedelta(milliseconds=200), "max_backoff": timedelta(seconds=2), "base": 2},
}
"""Few: who calls tries again later, and knows until when."""


def open_bucket(settings: StoreSettings, bucket: str) -> tuple[S3Store, Multipart | None]:
    """The bucket, and what sends parts to it: only with keys in the settings. Blocking.

    Raises InvalidInput naming the wrong setting, and obstore's own errors.
    """
    endpoint = (settings.endpoint or f"https://s3.{settings.region}.amazonaws.com").rstrip("/")
    scheme, _, host = endpoint.partition("://")
    if scheme == "http" and not settings.allow_http and not _is_loopback(urlsplit(endpoint).hostname or ""):
        raise InvalidInput("store.endpoint is http://: cores would be sent unprotected (store.allow_http)")
    access, secret = (
        _secret(settings.access_key, settings.access_key_file, "access_key"),
        _secret(settings.secret_key, settings.secret_key_file, "secret_key"),
    )
    if (access is None) != (secret is None):
        raise InvalidInput("store.access_key and store.secret_key belong together")
    token = _secret(settings.session_token, settings.session_token_file, "session_token")
    if token is not None and access is None:
        raise InvalidInput("store.session_token belongs to store.access_key and store.secret_key")
    authorities = _pem(settings.ca)
    if not settings.path_style:
        endpoint = f"{scheme}://{bucket}.{host}"
    options: Any = {
        "timeout": timedelta(seconds=settings.timeout),
        "connect_timeout": timedelta(seconds=min(10.0, settings.timeout)),
        "allow_http": scheme == "http",
        **({"root_certificate": authorities} if authorities else {}),
    }
    keys: Any = {"access_key_id": access, "secret_access_key": secret} if access and secret else {}
    if token is not None:
        keys["session_token"] = token
    store = S3Store(
        bucket,
        endpoint=endpoint,
        region=settings.region,
        virtual_hosted_style_request=not settings.path_style,
        disable_bulk_delete=True,  # OSS has none
        client_options=options,
        retry_config=_RETRIES,
        **keys,
    )
    if not access or not secret:
        return store, None
    trust = ssl.create_default_context() if authorities else None
    if trust is not None and authorities:
        trust.load_verify_locations(cadata=authorities)
    return store, Multipart(
        f"{endpoint}/{bucket}/" if settings.path_style else f"{endpoint}/",
        settings.region,
        Keys(access, secret, token),
        part_bytes=settings.part_bytes,
        timeout=settings.timeout,
        trust=trust,
    )


def _secret(value: SecretStr | None, file: Path | None, name: str) -> str | None:
    if file is None:
        return value.get_secret_value() if value else None
    try:
        return file.read_text(encoding="ascii").strip() or None
    except (OSError, ValueError) as error:
        raise InvalidInput(f"store.{name}_file cannot be read: {type(error).__name__}") from None


def _pem(file: Path | None) -> str | None:
    if file is None:
        return None
    try:
        text = file.read_text(encoding="ascii")
        ssl.create_default_context().load_verify_locations(cadata=text)
    except (OSError, ValueError) as error:
        raise InvalidInput(f"store.ca is no file of PEM certificates: {type(error).__name__}") from None
    return text


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
