"""`zerone serve MODEL` and `zerone chat MODEL`."""

from pathlib import Path
from typing import Annotated

import typer

Model = Annotated[str, typer.Argument(help="a transformers directory, a run directory, or `embedded`")]


def serve(
    model: Model,
    compare: Annotated[str | None, typer.Option(help="a second model, shown beside the first")] = None,
    host: Annotated[str, typer.Option(help="address to listen on")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 picks a free one")] = 8000,
    api_key_file: Annotated[
        Path | None, typer.Option(help="keys, one per line: KEY or NAME KEY; needed beyond loopback")
    ] = None,
    slots: Annotated[int, typer.Option(min=1, max=1024, help="answers decoded at once")] = 64,
    queue: Annotated[int, typer.Option(min=0, max=100_000, help="answers that may wait beside them")] = 256,
    price: Annotated[
        str, typer.Option(metavar="IN,OUT", help="USD per million tokens for /metrics [R1's API prices]")
    ] = "0.55,2.19",
) -> None:
    """Serve a model: OpenAI's API at /v1, a chat page at /, /health and /metrics."""
    from zerone.errors import ConfigError
    from zerone.serve.application import create_app
    from zerone.serve.keys import Keys
    from zerone.serve.models import Limits, open_model, use_this_machine
    from zerone.serve.running import open_socket
    from zerone.serve.running import serve as run
    from zerone.serve.telemetry import Prices

    prices = Prices.read(price)
    keys = None if api_key_file is None else Keys.read(api_key_file)
    listener = open_socket(host, port, has_keys=keys is not None)
    use_this_machine()
    limits = Limits(max_rows=slots, max_waiting=queue)
    models = [open_model(given, limits) for given in (model, compare) if given is not None]
    if len({served.name for served in models}) < len(models):
        raise ConfigError(f"both models are called {models[0].name}; rename one directory")
    run(create_app(models, keys, prices), listener)
