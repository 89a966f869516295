"""The alerts that an Alertmanager holds (API v2):
https://github.com/prometheus/alertmanager/blob/main/api/v2/openapi.yaml."""

from __future__ import annotations

from types import TracebackType
from typing import Any

from errors import InvalidInput, ToolFailed
from settings import AlertmanagerSettings
from tools.prometheus.http import MonitoringServer
from tools.prometheus.selectors import one_of


class Alertmanager:
    """One server."""

    def __init__(self, settings: AlertmanagerSettings) -> None:
        if settings.url is None:
            raise InvalidInput("no Alertmanager is configured: set alertmanager.url")
        self._server = MonitoringServer(
            "Alertmanager",
            settings.url,
            timeout=settings.timeout,
            max_bytes=settings.max_bytes,
            bearer_token_file=settings.bearer_token_file,
            ca=settings.ca,
        )

    async def __aenter__(self) -> Alertmanager:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        await self._server.close()

    async def alerts(self, namespace: str) -> list[dict[str, Any]]:
        """Alerts about a namespace and those about none (of nodes, of the cluster), silenced ones too.

        Raises ToolFailed (ToolTimeout, ToolMissing) when the server gives none.
        """
        about = one_of([namespace, ""])
        document = await self._server.ask("GET", "/api/v2/alerts", [("filter", f"namespace=~{about}")])
        if not isinstance(document, list):
            raise ToolFailed("Alertmanager answered something that is no list of alerts")
        return [alert for alert in document if isinstance(alert, dict)]
