"""The `paramedic` command: what it is made of, and which error becomes which exit code.

Exit codes: 0 diagnosed, healthy or done; 1 unknown; 2 bad usage or input (one clear line on stderr); 3 internal error.
Each command's work is in `terminal/`; heavy libraries are imported there, inside the command that needs them.
"""

from __future__ import annotations

import atexit
import gc
import os
import sys
import threading
from pathlib import Path
from typing import NoReturn

import typer

from errors import ParamedicError
from terminal import (
    approvals,
    audit,
    collect,
    core_group,
    core_shrink,
    deliveries,
    diagnose_core,
    diagnose_workload,
    eval,
    incidents,
    instances,
    keys,
    models,
    node,
    predict,
    rca,
    runbooks,
    schema,
    serve,
    store,
    webhook,
)
from terminal.demo import demo

app = typer.Typer(
    name="paramedic",
    help="Answers when something crashes on Kubernetes: a diagnosis with evidence, and a fix that a person approves.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
diagnose = typer.Typer(help="Say what is wrong, here and now, without a service.", no_args_is_help=True)
diagnose.command("core")(diagnose_core.core)
diagnose.command("snapshot")(diagnose_workload.snapshot)
diagnose.command("workload")(diagnose_workload.workload)
app.add_typer(diagnose, name="diagnose")
app.command("snapshot")(diagnose_workload.save_snapshot)
core_app = typer.Typer(help="Work on core dumps and crashes themselves.", no_args_is_help=True)
core_app.command("group")(core_group.group)
core_app.command("shrink")(core_shrink.shrink)
app.add_typer(core_app, name="core")
app.command()(serve.serve)
app.command()(collect.collect)
app.add_typer(webhook.app, name="webhook")
app.add_typer(node.app, name="node")
app.command()(incidents.autofix)
app.command()(incidents.incidents)
app.command()(instances.instances)
app.command()(rca.rca)
app.command()(predict.predict)
app.command()(approvals.approvals)
app.command()(approvals.approve)
app.command()(approvals.reject)
app.add_typer(models.app, name="models")
app.add_typer(runbooks.app, name="runbooks")
app.add_typer(store.app, name="store")
app.command()(audit.audit)
app.command()(deliveries.deliveries)
app.command()(schema.schema)
keys_app = typer.Typer(help="API keys.", no_args_is_help=True)
keys_app.command("new")(keys.new)
app.add_typer(keys_app, name="keys")
app.command()(demo)
app.command("eval")(eval.evaluate)


_GARBAGE = 100_000
"""New containers (some 10 MB) between two collections of cyclic garbage, in commands that end soon."""


def main() -> NoReturn:
    """Entry point of the `paramedic` script."""
    _end(_run())


def _run() -> int:
    """The exit code of what the command line asks for."""
    if sys.argv[1:2] != ["serve"]:  # else importing takes a fifth longer: what stays is looked through again and again
        gc.set_threshold(_GARBAGE)
    if "--help" not in sys.argv and not _logs_nothing(sys.argv[1:3]):  # its setup takes a sixth of a second
        from tools.logs import configure_logging

        configure_logging("warning")
    try:
        if core_shrink.is_plain(sys.argv):  # typer converts arguments by pydantic, which takes longer to load than this
            core_shrink.shrink(Path(sys.argv[3]), Path(sys.argv[4]))
        else:
            app(standalone_mode=True)
    except SystemExit as end:  # how typer ends every command
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    except ParamedicError as error:
        typer.echo(f"paramedic: {error}", err=True)
        return error.exit_code
    except KeyboardInterrupt:
        return 130
    except Exception as error:
        if os.environ.get("PARAMEDIC_LOG_LEVEL") == "debug":
            raise
        typer.echo(f"paramedic: internal error: {type(error).__name__}: {error}", err=True)
        return 3
    return 0


def _end(code: int) -> NoReturn:
    """End at once: to take the interpreter apart first takes a tenth of a second, and gives nothing back.

    Nothing of the orderly way is left out but that: threads are waited for, exit handlers run, output is written.
    """
    if threading.active_count() > 1:
        sys.exit(code)
    atexit._run_exitfuncs()
    try:
        for stream in (sys.stdout, sys.stderr):
            if stream is not None:  # closed by the caller
                stream.flush()
    except OSError:  # whoever read it is gone; the interpreter has a status for that
        sys.exit(code)
    os._exit(code)


def _logs_nothing(command: list[str]) -> bool:
    return command[:1] == ["core"] or command == ["diagnose", "core"]


if __name__ == "__main__":
    main()
