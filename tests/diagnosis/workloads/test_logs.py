"""The telling line of a log, and the address in a failed connection."""

from __future__ import annotations

import socket
import subprocess
import sys
import urllib.request
from datetime import UTC, datetime

import pytest

from diagnosis.workloads.hosts import failure_in
from diagnosis.workloads.logs import Log
from diagnosis.workloads.probes import listening_in
from diagnosis.workloads.templates import ANY, MAX_TEMPLATES, masked, mine

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def telling(content: str) -> str | None:
    line = Log.of("ns", "pod", "app", True, content).telling_line()
    return line.text if line else None


def python_log(program: str) -> str:
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    return done.stdout + done.stderr


def test_a_real_python_traceback_tells_by_its_last_line() -> None:
    program = "print('ERROR this one was survived', flush=True)\ndef f(x):\n    return {}[x]\nf('DATABASE_URL')"
    assert telling(python_log(program)) == "KeyError: 'DATABASE_URL'"


def test_a_chained_python_traceback_tells_by_the_exception_that_ended_it() -> None:
    program = (
        "class Boom(Exception): pass\n"
        "try:\n    int('eighty')\nexcept ValueError as error:\n    raise Boom('port is no number') from error"
    )
    assert telling(python_log(program)) == "Boom: port is no number"


@pytest.mark.parametrize(
    ("content", "line"),
    [
        (
            "INFO up\npanic: runtime error: index out of range [3] with length 3\n\ngoroutine 1 [running]:\n"
            "main.main()\n\t/src/main.go:9 +0x1d\nexit status 2",
            "panic: runtime error: index out of range [3] with length 3",
        ),
        (
            'Exception in thread "main" java.lang.IllegalStateException: cannot start\n\tat a.B.c(B.java:1)\n'
            "Caused by: java.io.IOException: disk full\n\tat a.D.e(D.java:2)\n\t... 3 more\nshutting down",
            "Caused by: java.io.IOException: disk full",
        ),
        ("ERROR first\nINFO more\nERROR second\nINFO bye", "ERROR second"),
        ("FATAL: no space\nERROR: closing\nINFO bye", "FATAL: no space"),
        ("加载配置\n错误：端口无效\n退出", "错误：端口无效"),
        ("one\ntwo\n\n", "two"),
    ],
)
def test_the_telling_line(content: str, line: str) -> None:
    assert telling(content) == line


def test_an_empty_log_tells_nothing() -> None:
    assert telling("\n \n") is None


def test_the_window_holds_the_line_within_an_excerpt() -> None:
    log = Log.of("ns", "pod", "app", True, "\n".join(["x" * 5000, "ERROR here", *["y" * 5000] * 50]))
    line = log.telling_line()
    assert line is not None
    evidence = log.evidence(line, NOW)
    assert "ERROR here" in evidence.excerpt
    assert not evidence.truncated
    assert evidence.source.startswith("kubectl logs -n ns pod -c app --previous lines ")


@pytest.mark.parametrize(
    ("line", "host", "port", "how"),
    [
        ("dial tcp 10.0.0.7:5432: connect: connection refused", "10.0.0.7", 5432, "refused"),
        ("dial tcp: lookup db on 10.96.0.10:53: no such host", "db", None, "unresolved"),
        ("Error: connect ECONNREFUSED 10.1.2.3:6379", "10.1.2.3", 6379, "refused"),
        ("Error: getaddrinfo ENOTFOUND orders.shop.svc", "orders.shop.svc", None, "unresolved"),
        ("wget: bad address 'orders:8080'", "orders", 8080, "unresolved"),
        ('could not translate host name "pg" to address: Name or service not known', "pg", None, "unresolved"),
        (
            'connection to server at "pg" (10.0.0.9), port 5432 failed: Connection refused\n',
            "pg",
            5432,
            "refused",
        ),
        ("java.net.UnknownHostException: kafka-0", "kafka-0", None, "unresolved"),
        ("curl: (6) Could not resolve host: api.shop", "api.shop", None, "unresolved"),
        ("redis.ConnectionError: Error 111 connecting to cache:6379. Connection refused.", "cache", 6379, "refused"),
        ("Can't connect to MySQL server on 'db:3306' (111)", "db", 3306, "refused"),
        ("connect to localhost:9000 failed: Connection refused", "localhost", 9000, "refused"),
        ("amqp://user:[redacted]@mq:5672/ failed: connection refused", "mq", 5672, "refused"),
    ],
)  # fmt: skip
def test_the_address_of_a_failed_connection(line: str, host: str, port: int | None, how: str) -> None:
    failure = failure_in(line)
    assert failure is not None
    assert (failure.host, failure.port, failure.how) == (host, port, how)


@pytest.mark.parametrize(
    "line",
    [
        "listening on 0.0.0.0:8080",
        "file main.go:42: error: x is not a number",
        "12:30:45 INFO connected to db:5432",
        "user request refused: not allowed",
    ],
)
def test_other_lines_tell_of_no_failed_connection(line: str) -> None:
    assert failure_in(line) is None


def test_what_python_itself_says_of_a_refused_port() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with pytest.raises(OSError, match="refused") as caught:
        urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=5)
    failure = failure_in(f"GET http://127.0.0.1:{port}/ failed: {caught.value}")
    assert failure is not None
    assert (failure.port, failure.local) == (port, True)


@pytest.mark.parametrize(
    ("line", "port", "loopback"),
    [
        ("INFO server listening on 0.0.0.0:8080", 8080, False),
        ("Listening on port 3000", 3000, False),
        ("Uvicorn running on http://127.0.0.1:8000 (Press CTRL+C to quit)", 8000, True),
        ("Tomcat started on port(s): 8443 (https)", 8443, False),
        ("http server started on [::]:1323", 1323, False),
        ("msg=serving addr=:9090", 9090, False),
        ("Serving HTTP on 0.0.0.0 port 8000", 8000, False),
        ("监听端口 8081", 8081, False),
    ],
)
def test_where_the_program_says_it_listens(line: str, port: int, loopback: bool) -> None:
    found = listening_in([line])
    assert [(item.port, item.loopback) for item in found] == [(port, loopback)]


@pytest.mark.parametrize(
    "line", ["started at 12:30:45", "ready in 350 ms", "started worker 8080abc", "serving 10 users"]
)
def test_times_and_counts_are_no_ports(line: str) -> None:
    assert listening_in([line]) == []


def test_hostile_lines_are_quick() -> None:
    for unit in ("a.", "a-", "connection refused a:", "host ", "1.", "://", "lookup a"):
        failure_in(unit * 5_000)
        listening_in(["listening " + unit * 5_000])
        telling(unit * 50_000)


def test_lines_that_differ_in_their_variables_are_one_template() -> None:
    lines = [f"2026-01-01 00:00:{n:02d} GET /item/{n} from 10.0.0.{n} took {n} ms" for n in range(40)]
    lines += ["ready", "", *(f"user {name} logged in from the office" for name in ("ann", "bob", "eve"))]
    found = mine(lines)
    assert [(template.count, template.first, template.last) for template in found] == [
        (40, 1, 40),
        (3, 43, 45),
        (1, 41, 41),
    ]
    assert found[1].text == f"user {ANY} logged in from the office"
    assert found[1].example == "user eve logged in from the office"


def test_lines_that_say_something_else_are_not_one() -> None:
    lines = ["connection to db refused", "connection to db restored", "cache is full", "disk is full"]
    assert len(mine(lines)) >= 3
    assert masked("panic at 0xdeadbeef in 7f3a9c21d4") == masked("panic at 0xfeedface in 8a1b2c3d4e")
    assert masked("cafe opened") != masked("decade opened"), "words of hexadecimal letters are words"


def test_mining_is_bounded() -> None:
    found = mine(f"{'x' * (n % 977 + 1)} {n} {'y' * (n % 991)}" for n in range(20_000))
    assert len(found) <= MAX_TEMPLATES
    assert sum(template.count for template in found) <= 5_000


def test_a_repeated_line_is_shown_once_with_its_number() -> None:
    before = [f"retry {n} of the connection" for n in range(50)]
    content = "\n".join(["starting with profile blue", *before, "FATAL: giving up", "bye"])
    log = Log.of("ns", "pod", "app", True, content)
    line = log.telling_line()
    assert line is not None
    evidence = log.evidence(line, NOW)
    assert evidence.excerpt == (
        "starting with profile blue\n[49 more lines like it]\nretry 49 of the connection\nFATAL: giving up\nbye"
    )
    assert evidence.source.endswith("--previous lines 1-53")
    assert log.templates()[0].count == 50


def test_a_window_keeps_its_budget_and_its_line() -> None:
    content = (
        "\n".join(f"{'long ' * 70}{chr(65 + n % 26)}{'z' * (n % 50)}" for n in range(200))
        + "\nFATAL end\n"
        + "tail\n" * 3
    )
    log = Log.of("ns", "pod", "app", False, content)
    line = log.telling_line()
    assert line is not None
    excerpt = log.evidence(line, NOW).excerpt
    assert "FATAL end" in excerpt and len(excerpt) < 3_100 and excerpt.count("\n") > 6


def test_how_often_a_line_was_said() -> None:
    log = Log.of("ns", "pod", "app", False, "ERROR 1 lost\nINFO x\nERROR 2 lost\nERROR 3 lost")
    line = log.telling_line()
    assert line is not None and log.like(line) == 3
