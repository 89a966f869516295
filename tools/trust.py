"""The certificate authorities that requests to other servers trust, read once a process: that takes some 50 ms.

httpx and the OpenAI client read them anew for every client that they make, on the event loop.
"""

from __future__ import annotations

import functools
import ssl


@functools.cache
def trusted() -> ssl.SSLContext:
    """What httpx trusts by default: certifi's list, or that of SSL_CERT_FILE or SSL_CERT_DIR. Blocks the first time."""
    import httpx  # heavy: only when something is asked

    return httpx.create_ssl_context()
