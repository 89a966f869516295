"""A pytest plugin: the tests that one process collected are run by several, each forked off it.

`-p tests.forked --workers 3`. What is imported, compiled and collected is there once: processes of their own, as
pytest-xdist starts them, spent a tenth of the run on doing it again. A file's tests stay together, in one process.
"""

from __future__ import annotations

import atexit
import multiprocessing
import os
import signal
import sys
import traceback
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

import pytest
from _pytest.config import create_terminal_writer

_TOKEN = 4  # bytes of a group's number in the pipe that the workers take their work from


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.getgroup("forked").addoption(
        "--workers", type=int, default=(os.cpu_count() or 1) + 1, help="processes that run tests (1: this one)"
    )  # one more than there are processors: while one waits for a server or a debugger, another computes


_Place = tuple[str, int | None, str]


@dataclass
class _Worker:
    pid: int
    news: Connection
    ended: bool = False
    running: tuple[str, _Place] | None = None
    taken: int = 0
    error: str = ""


@pytest.hookimpl(tryfirst=True)
def pytest_runtestloop(session: pytest.Session) -> bool | None:
    count = session.config.getoption("workers")
    if count < 2 or len(session.items) < 2 or session.testsfailed or session.config.option.collectonly:
        return None  # pytest's own loop, which knows what to do
    groups = [list(items) for _, items in groupby(session.items, lambda item: item.nodeid.partition("::")[0])]
    if len(groups) < count:
        groups = [[item] for item in session.items]
    jobs, fill = os.pipe()
    os.write(fill, b"".join(number.to_bytes(_TOKEN, "big") for number in range(len(groups))))
    os.close(fill)
    reporter = session.config.pluginmanager.getplugin("terminalreporter")
    reporter.showfspath = False  # files are not run one after the other
    places = session.config._tmp_path_factory.getbasetemp()  # type: ignore[attr-defined]
    workers: list[_Worker] = []
    try:
        for number in range(count):
            workers.append(_start(session, groups, jobs, places / f"worker{number}", [one.news for one in workers]))
        os.close(jobs)
        finished = _listen(session, workers)
    finally:
        for worker in workers:
            if not worker.ended:
                os.kill(worker.pid, signal.SIGINT)
                os.waitpid(worker.pid, 0)
    if finished != len(session.items):
        raise session.Failed(f"{len(session.items) - finished} tests have no result")
    return True


def _listen(session: pytest.Session, workers: list[_Worker]) -> int:
    """Report what workers tell till all ended. Returns how many tests ran; raises what pytest's own loop raises."""
    finished = 0
    while running := {worker.news: worker for worker in workers if not worker.ended}:
        for news in wait(running):
            assert isinstance(news, Connection)
            worker = running[news]
            try:
                kind, what = news.recv()
                finished += kind == "finish"
                _report(session, worker, kind, what)
            except EOFError:
                worker.ended = True
                status = os.waitstatus_to_exitcode(os.waitpid(worker.pid, 0)[1])
                if status or worker.taken:
                    _lost(session, worker, status)
            if session.shouldfail:
                raise session.Failed(session.shouldfail)
            if session.shouldstop:
                raise session.Interrupted(session.shouldstop)
    return finished


def _report(session: pytest.Session, worker: _Worker, kind: str, what: Any) -> None:
    hook = session.config.hook
    if kind == "taken":
        worker.taken += what
    elif kind == "start":
        worker.running = what
        hook.pytest_runtest_logstart(nodeid=what[0], location=what[1])
    elif kind == "report":
        report = hook.pytest_report_from_serializable(config=session.config, data=what)
        hook.pytest_runtest_logreport(report=report)
    elif kind == "finish":
        worker.running = None
        worker.taken -= 1
        hook.pytest_runtest_logfinish(nodeid=what[0], location=what[1])
    elif kind == "warning":
        hook.pytest_warning_recorded.call_historic(kwargs=what)
    else:
        worker.error = what


def _lost(session: pytest.Session, worker: _Worker, status: int) -> None:
    """A worker that died fails the test that it was at, and the run."""
    nodeid, location = worker.running or ("at the end of a worker", ("", None, ""))
    text = f"the worker ended with {status}; {worker.taken} tests that it had taken have no result\n{worker.error}"
    report = pytest.TestReport(nodeid, location, {}, "failed", text, "call")
    session.config.hook.pytest_runtest_logreport(report=report)


def _start(
    session: pytest.Session, groups: list[list[pytest.Item]], jobs: int, place: Path, others: list[Connection]
) -> _Worker:
    news, telling = multiprocessing.Pipe(duplex=False)
    sys.stdout.flush()
    sys.stderr.flush()
    pid = os.fork()
    if pid:
        telling.close()
        return _Worker(pid, news)
    status = 1
    try:
        atexit._clear()  # what was to be done at the end is the first process's
        for end in (news, *others):
            end.close()
        _work(session, groups, jobs, telling, place)
        status = 0
    except BaseException:
        telling.send(("error", traceback.format_exc()))
    finally:
        atexit._run_exitfuncs()
        os._exit(status)


def _work(
    session: pytest.Session, groups: list[list[pytest.Item]], jobs: int, telling: Connection, place: Path
) -> None:
    config = session.config
    capture = config.pluginmanager.getplugin("capturemanager")
    capture.stop_global_capturing()  # its files are the first process's
    capture.start_global_capturing()
    capture.suspend_global_capture()
    config.pluginmanager.getplugin("terminalreporter")._tw = create_terminal_writer(config, open(os.devnull, "w"))  # noqa: SIM115
    place.mkdir(mode=0o700)
    config._tmp_path_factory._basetemp = place  # type: ignore[attr-defined]
    config.pluginmanager.register(_Teller(config, telling))

    def follow() -> Iterator[pytest.Item]:
        # a group is taken when the last test of the one before begins
        while token := os.read(jobs, _TOKEN):
            group = groups[int.from_bytes(token, "big")]
            telling.send(("taken", len(group)))
            yield from group

    items = follow()
    item = next(items, None)
    while item is not None:
        after = next(items, None)
        config.hook.pytest_runtest_protocol(item=item, nextitem=after)
        item = after
    config._ensure_unconfigure()  # where errors that nobody waited for are raised


class _Teller:
    """Tells the first process, in the worker, what happens."""

    def __init__(self, config: pytest.Config, telling: Connection) -> None:
        self._config = config
        self._telling = telling

    def pytest_runtest_logstart(self, nodeid: str, location: _Place) -> None:
        self._telling.send(("start", (nodeid, location)))

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        data = self._config.hook.pytest_report_to_serializable(config=self._config, report=report)
        self._telling.send(("report", data))

    def pytest_runtest_logfinish(self, nodeid: str, location: _Place) -> None:
        self._telling.send(("finish", (nodeid, location)))

    def pytest_warning_recorded(
        self,
        warning_message: warnings.WarningMessage,
        when: str,
        nodeid: str,
        location: tuple[str, int, str] | None,
    ) -> None:
        plain = warnings.WarningMessage(
            str(warning_message.message), UserWarning, warning_message.filename, warning_message.lineno
        )
        what = {"warning_message": plain, "when": when, "nodeid": nodeid, "location": location}
        self._telling.send(("warning", what))
