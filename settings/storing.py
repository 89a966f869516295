"""Where cores are kept, how they get there, and what goes first."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, SecretStr

from settings.section import Section


class StoreSettings(Section):
    """Where collected cores are kept: a bucket of an S3-compatible store, or a folder such as a mounted NFS."""

    url: Annotated[str, Field(pattern=r"^(s3://[a-z0-9][a-z0-9.-]{1,62}|file:///.*)$")] | None = Field(
        default=None, description="`s3://BUCKET` or `file:///FOLDER`; empty: the folder DATA_DIR/store"
    )
    prefix: str = Field(
        default="paramedic",
        pattern=r"^[A-Za-z0-9_-][A-Za-z0-9._-]{0,127}(/[A-Za-z0-9_-][A-Za-z0-9._-]{0,127}){0,3}$",
        description="What every key begins with",
    )
    endpoint: Annotated[str, Field(pattern=r"^https?://[^/@\s]+/?$")] | None = Field(
        default=None, description="Of a store that is not AWS, without the bucket; empty: AWS in `region`"
    )
    region: str = "us-east-1"
    path_style: bool = Field(
        default=True, description="The bucket in the path; false, as COS and OSS want it: in the host's name"
    )
    access_key: SecretStr | None = Field(
        default=None, description="Without keys here: AWS_* variables, web identity or the machine's role"
    )
    access_key_file: Path | None = None
    secret_key: SecretStr | None = None
    secret_key_file: Path | None = None
    session_token: SecretStr | None = Field(default=None, description="With temporary keys; it is not renewed")
    session_token_file: Path | None = None
    ca: Path | None = Field(default=None, description="PEM file of further authorities that certificates may be from")
    allow_http: bool = Field(default=False, description="Without TLS to another machine than this one")
    encryption_key_file: Path | None = Field(
        default=None, description="Keys, see the README: what is stored is encrypted here with the first of them"
    )
    part_bytes: int = Field(default=8 << 20, ge=5 << 20, le=1 << 30, description="Larger files are sent in such parts")
    timeout: float = Field(default=60.0, gt=0, description="Of one request")
    link_seconds: int = Field(default=900, ge=1, le=3600, description="How long a presigned link is valid")


class ShippingSettings(Section):
    """What becomes of a collected core on its node."""

    full_core: Literal["auto", "always", "never"] = Field(
        default="auto",
        description="Whether the whole core is stored beside the reduced one. auto: when its crash is new to this "
        "node, its value reaches the threshold or it is cut; one that cannot be reduced is always stored whole",
    )
    value_threshold: float = Field(default=7.0, ge=0, le=10)
    local_file: Literal["remove", "truncate", "keep"] = Field(
        default="remove", description="What happens to the core's file once the store has confirmed what it holds"
    )
    parallel: int = Field(default=2, ge=1, le=16, description="Cores that are sent at the same time")
    retry_seconds: float = Field(default=300.0, gt=0, description="The longest pause between two attempts")
    disk_reserve_bytes: int = Field(
        default=1 << 30, ge=0, description="With less free on the node's disk, the least valuable cores are given up"
    )
    namespace_bytes: int | None = Field(
        default=None,
        ge=0,
        description="What the files of each namespace may take of the node's disk: beyond it go those that are done "
        "with, then its least valuable cores. Empty: no such limit",
    )
    reduce_seconds: float = Field(default=120.0, gt=0, description="Until a core is stored whole instead")


class RetentionSettings(Section):
    """What is deleted from the store, least valuable first; empty: no such limit."""

    max_age_days: float | None = Field(default=30.0, gt=0)
    max_bytes: int | None = Field(default=50 << 30, ge=0)
    namespace_bytes: int | None = Field(default=None, ge=0, description="Of each namespace's cores")
    keep_per_signature: int | None = Field(default=20, ge=1, description="Cores of the same crash")
    interval_seconds: float = Field(default=3600.0, ge=1, description="How often the service looks")
