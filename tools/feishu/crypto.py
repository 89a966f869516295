"""Signatures and encryption of Feishu: custom-bot messages out, event and card callbacks in.

Sources: open.feishu.cn, "Custom bot guide" (sign) and "Configure Encrypt Key" (AES-256-CBC, event signature).
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import os

from cryptography.hazmat.primitives import padding
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes


def webhook_sign(timestamp: int, secret: str) -> str:
    """Signature of a custom-bot message: the key is timestamp and secret, the message is empty. Seconds."""
    return base64.b64encode(hmac.new(f"{timestamp}\n{secret}".encode(), b"", hashlib.sha256).digest()).decode()


def event_signature(timestamp: str, nonce: str, encrypt_key: str, raw_body: bytes) -> str:
    """Signature of a callback, as in `X-Lark-Signature`. It covers the bytes as received, never a re-serialisation."""
    return hashlib.sha256((timestamp + nonce + encrypt_key).encode("utf-8", "replace") + raw_body).hexdigest()


def encrypt(plaintext: bytes, encrypt_key: str, iv: bytes | None = None) -> str:
    """AES-256-CBC with PKCS7 under sha256(encrypt_key); base64 of IV and ciphertext. `iv` is 16 bytes."""
    iv = iv or os.urandom(16)
    pad = padding.PKCS7(128).padder()
    cipher = Cipher(algorithms.AES(_key(encrypt_key)), modes.CBC(iv)).encryptor()
    return base64.b64encode(iv + cipher.update(pad.update(plaintext) + pad.finalize()) + cipher.finalize()).decode()


def decrypt(blob: str, encrypt_key: str) -> bytes:
    """The inverse of `encrypt`. Raises ValueError for everything that is not well-formed.

    CBC carries no authentication: callers must answer every failure alike, or they build a padding oracle.
    """
    data = base64.b64decode(blob, validate=True)
    if len(data) < 32 or len(data) % 16:
        raise ValueError("not a whole number of blocks")
    cipher = Cipher(algorithms.AES(_key(encrypt_key)), modes.CBC(data[:16])).decryptor()
    unpad = padding.PKCS7(128).unpadder()
    return unpad.update(cipher.update(data[16:]) + cipher.finalize()) + unpad.finalize()


def same(a: str, b: str) -> bool:
    """Compare in constant time; any text is allowed."""
    return hmac.compare_digest(a.encode("utf-8", "replace"), b.encode("utf-8", "replace"))


def _key(encrypt_key: str) -> bytes:
    return hashlib.sha256(encrypt_key.encode()).digest()
