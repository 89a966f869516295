"""`paramedic serve` as a real process: its own data directory, configuration, port and callers."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import secrets
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import httpx

from tests.e2e.harness import ROOT, until
from tests.standins.feishu import FeishuStandIn, Message, Pressed, Variant
from tests.standins.feishu_schema import buttons_of

PARAMEDIC = Path(sys.executable).with_name("paramedic")
REQUESTER, FIRST, SECOND, STRANGER = "pager", "physician", "surgeon", "visitor"
"""Names of API keys. The requester is an approver too (of what others request); the stranger is none."""
ON_CALL, OUTSIDER = "ou_oncall", "ou_outsider"
"""People in the chat: only the first is an approver."""
ENDED = {
    "diagnosed", "healthy", "unknown", "fixed", "not_fixed", "escalated", "declined", "expired", "stale", "failed",
}  # fmt: skip
Answer = dict[str, Any]


class Service:
    """One instance. `config` is merged over the defaults, section by section."""

    def __init__(self, folder: Path, config: Mapping[str, Mapping[str, object]], program: list[str] | None = None):
        self.folder = folder
        self.port = _free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.keys = {caller: f"pmk_{secrets.token_urlsafe(24)}" for caller in (REQUESTER, FIRST, SECOND, STRANGER)}
        self.program = program or [str(PARAMEDIC), "serve"]
        self.process: subprocess.Popen[bytes] | None = None
        self.feishu = FeishuStandIn(callback_url=f"{self.url}/api/v1/feishu/callback")
        self.database = folder / "data" / "paramedic.db"
        self._log = folder / "service.log"
        self._http = httpx.Client(base_url=self.url, timeout=60, trust_env=False)
        folder.mkdir(parents=True)
        self.feishu.start()
        (folder / "paramedic.toml").write_text(self._toml(config))

    def _toml(self, config: Mapping[str, Mapping[str, object]]) -> str:
        approvers = {f"api:{FIRST}": ["approver"], f"api:{SECOND}": ["approver"], f"api:{REQUESTER}": ["approver"]}
        approvers[self.feishu.identity(ON_CALL)] = ["approver"]
        sections: dict[str, dict[str, object]] = {
            "feishu": self._feishu(),
            "gate": {
                "verify_seconds": 60,
                "verify_stable_seconds": 6,
                "verify_poll_seconds": 0.5,
                "max_executions_per_hour": 1000,
            },
        }
        for section, values in config.items():
            sections[section] = {**sections.get(section, {}), **values}
        approvers |= sections["gate"].pop("approvers", {})  # type: ignore[arg-type]
        lines = [f"data_dir = {json.dumps(str(self.folder / 'data'))}"]
        top = sections.pop("", {})
        lines += [f"{key} = {json.dumps(value)}" for key, value in top.items()]
        for section, values in sections.items():
            lines += [f"[{section}]", *(f"{key} = {json.dumps(value)}" for key, value in values.items())]
        lines += ["[gate.approvers]", *(f"{json.dumps(who)} = {json.dumps(roles)}" for who, roles in approvers.items())]
        for caller, key in self.keys.items():
            scopes = ["read", "autofix"] if caller == STRANGER else ["read", "autofix", "approve"]
            lines += [
                "[[api.keys]]",
                f"name = {json.dumps(caller)}",
                f'sha256 = "{hashlib.sha256(key.encode()).hexdigest()}"',
                f"scopes = {json.dumps(scopes)}",
            ]
        return "\n".join(lines) + "\n"

    def _feishu(self) -> dict[str, object]:
        prefix = "PARAMEDIC_FEISHU__"
        return {key.removeprefix(prefix).lower(): value for key, value in self.feishu.environment().items()}

    # --- the process ----------------------------------------------------------------------------------------------

    def start(self, **env: str) -> Service:
        """Start and wait until it is ready. Raises AssertionError with the end of its log when it is not."""
        inherited = {key: value for key, value in os.environ.items() if not key.startswith("PARAMEDIC_")}
        inherited.pop("PYTHONDONTWRITEBYTECODE", None)  # many starts: compile the dependencies once
        inherited |= {"PARAMEDIC_CONFIG": str(self.folder / "paramedic.toml"), **env}
        with self._log.open("ab") as log:
            self.process = subprocess.Popen(
                [*self.program, "--port", str(self.port)], cwd=ROOT, env=inherited, stdout=log, stderr=log
            )
        until(self._ready, 180, "the service ready", show=self.log)
        return self

    def _ready(self) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, f"the service ended with {self.process.returncode}: {self.log()}"
        try:
            return self._http.get("/readyz", timeout=2).status_code == 200
        except httpx.HTTPError:
            return False

    def kill(self) -> None:
        """kill -9."""
        assert self.process is not None
        self.process.send_signal(signal.SIGKILL)
        self.process.wait(10)

    def stop(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(20)
            except subprocess.TimeoutExpired:
                self.kill()

    def close(self) -> None:
        self.stop()
        self.feishu.stop()
        self._http.close()

    def wait_death(self, timeout: float = 60) -> int:
        """The exit code of a process that is about to end by itself."""
        assert self.process is not None
        return self.process.wait(timeout)

    def log(self) -> str:
        return self._log.read_text(errors="replace")[-4000:]

    # --- its callers ----------------------------------------------------------------------------------------------

    def ask(self, method: str, path: str, body: object = None, *, caller: str = REQUESTER, **more: Any) -> Answer:
        """The JSON answer. Raises AssertionError with the problem's words for an error status."""
        answer = self.raw(method, path, body, caller=caller, **more)
        assert answer.status_code < 400, f"{method} {path}: {answer.status_code} {answer.text[:800]}"
        found: Answer = answer.json()
        return found

    def raw(
        self, method: str, path: str, body: object = None, *, caller: str = REQUESTER, **more: Any
    ) -> httpx.Response:
        headers = {"Authorization": f"Bearer {self.keys[caller]}"}
        return self._http.request(method, path, json=body, headers=headers, **more)

    def report(self, namespace: str, name: str, event: str = "it does not work", **more: object) -> str:
        """POST /api/v1/autofix about a Deployment (or `workload="KIND/NAME"`); the incident's id."""
        body = {"namespace": namespace, "event": event, **more}
        if "workload" not in more:
            body["deployment"] = name
        return str(self.ask("POST", "/api/v1/autofix", body)["incident"]["id"])

    def incident(self, incident_id: str) -> Answer:
        """Everything on record: incident, diagnosis, proposals, approvals."""
        return self.ask("GET", f"/api/v1/incidents/{incident_id}")

    def wait(self, incident_id: str, *statuses: str, timeout: float = 120) -> Answer:
        """Wait until the incident has one of the statuses. Raises when it ends with another."""

        def there() -> Answer | None:
            found = self.incident(incident_id)
            status = found["incident"]["status"]
            if status in statuses:
                return found
            assert status not in ENDED, f"the incident ended as {status}, not {statuses}: {self.story(incident_id)}"
            return None

        return until(there, timeout, f"incident {statuses}", show=lambda: self.story(incident_id))

    def wait_end(self, incident_id: str, timeout: float = 150) -> Answer:
        return self.wait(incident_id, *ENDED, timeout=timeout)

    def wait_plan(self, incident_id: str, timeout: float = 90) -> Answer:
        """The one pending approval of the incident, with its whole plan."""
        found = self.wait(incident_id, "awaiting_approval", timeout=timeout)
        approvals = [item for item in found["approvals"] if item["state"] == "pending"]
        assert len(approvals) == 1, approvals
        return self.approval(approvals[0]["id"])

    def approval(self, approval_id: str) -> Answer:
        return self.ask("GET", f"/api/v1/approvals/{approval_id}")

    def decide(
        self, approval: Answer, caller: str, verdict: str = "approve", *, waive: bool = False, digest: str | None = None
    ) -> httpx.Response:
        body = {"verdict": verdict, "digest": digest or approval["digest"], "waive_evidence": waive}
        return self.raw("POST", f"/api/v1/approvals/{approval['id']}/decision", body, caller=caller)

    def approve(self, approval: Answer, caller: str = FIRST, **more: Any) -> Answer:
        answer = self.decide(approval, caller, **more)
        assert answer.status_code < 400, answer.text
        found: Answer = answer.json()
        return found

    # --- the chat -------------------------------------------------------------------------------------------------

    def card(self, approval: Answer, timeout: float = 30) -> Message:
        """The message in the chat whose buttons decide this approval."""

        def there() -> Message | None:
            for message in list(self.feishu.messages.values()):
                for card in message.versions:
                    if buttons_of(card) and approval["id"] in json.dumps(card):
                        return message
            return None

        return until(there, timeout, f"a card for {approval['id']}", show=lambda: list(self.feishu.messages))

    def press(
        self, message: Message, button: str, who: str = ON_CALL, *, variant: Variant = "genuine", version: int = -1
    ) -> Pressed:
        """Press a button through the real callback."""
        return asyncio.run(self.feishu.press(message.id, button, who, variant=variant, version=version))

    def press_often(self, message: Message, button: str, times: int) -> list[Pressed]:
        """Many presses of the same button at the same moment."""

        async def together() -> list[Pressed]:
            return list(
                await asyncio.gather(*(self.feishu.press(message.id, button, ON_CALL, version=0) for _ in range(times)))
            )

        return asyncio.run(together())

    # --- what is on record ----------------------------------------------------------------------------------------

    def steps(self, incident_id: str) -> list[Answer]:
        """The timeline of an ended incident, from its event stream."""
        text = self.raw("GET", f"/api/v1/incidents/{incident_id}/events", timeout=20).text
        events = [json.loads(line[6:]) for line in text.splitlines() if line.startswith("data: ")]
        assert events[-1]["status"] in ENDED  # the stream says itself that it is over
        return events[:-1]

    def story(self, incident_id: str) -> str:
        """What a failed test prints: status, causes, proposals, approvals, and what could not be seen."""
        found = self.incident(incident_id)
        diagnosis = found["diagnosis"] or {}
        causes = [(c["class"], c["confidence"], c["summary"]) for c in diagnosis.get("causes") or []]
        approvals = [(a["state"], a["title"], a["outcome"]) for a in found["approvals"]]
        proposals = [(p["title"], p["reason"]) for p in found["proposals"]]
        unseen = diagnosis.get("unseen")
        parts = [found["incident"]["status"], causes, proposals, approvals, unseen, self.log()[-1500:]]
        return "\n  ".join(map(str, parts))


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])
