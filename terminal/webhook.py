"""`paramedic webhook`: the admission webhook in the foreground, and its certificate."""

from __future__ import annotations

from typing import Annotated

import typer

app = typer.Typer(help="The admission webhook that gives pods a folder for their cores.", invoke_without_command=True)


@app.callback()
def serve(context: typer.Context) -> None:
    """Serve the webhook until SIGTERM."""
    if context.invoked_subcommand is not None:
        return
    import asyncio

    from collector.webhook.server import run
    from settings import load_settings
    from tools.logs import configure_logging

    settings = load_settings()
    configure_logging(settings.log_level)
    asyncio.run(run(settings, lambda url: typer.echo(f"paramedic webhook serves {url}", err=True)))


@app.command()
def certificate(
    service: Annotated[str, typer.Option(help="Name of the webhook's Service")],
    namespace: Annotated[str, typer.Option("--namespace", "-n", help="Where Service and Secret are")],
    secret: Annotated[str, typer.Option(help="Secret that the certificate is kept in")],
    configuration: Annotated[str, typer.Option(help="MutatingWebhookConfiguration that is to trust it")],
) -> None:
    """Make or renew the webhook's certificate and let the API server trust it. Twice changes nothing."""
    import asyncio

    from collector.webhook.certificate import ensure
    from settings import load_settings
    from tools.kubernetes.client import Cluster

    async def run() -> None:
        async with await Cluster.connect(load_settings().kubernetes) as cluster:
            fresh = await ensure(
                cluster, service=service, namespace=namespace, secret=secret, configuration=configuration
            )
        typer.echo("a new certificate was made" if fresh else "the certificate is valid for another month")

    asyncio.run(run())
