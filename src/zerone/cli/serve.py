"""`zerone serve MODEL` and `zerone chat MODEL`."""

from pathlib import Path
from typing import Annotated

import typer

Model = Annotated[str, typer.Argument(help="a transformers directory, a run directory, or `embedded`")]


def serve(  # noqa: PLR0913 - the flags of a command
    model: Model,
    compare: Annotated[str | None, typer.Option(help="a second model, shown beside the first")] = None,
    host: Annotated[str, typer.Option(help="address to listen on")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="port; 0 picks a free one")] = 8000,
    api_key_file: Annotated[
        Path | None, typer.Option(help="keys, one per line: KEY or NAME KEY; needed beyond loopback")
    ] = None,
    slots: Annotated[int, typer.Option(min=1, max=1024, help="completions decoded at once")] = 64,
    queue: Annotated[
        int, typer.Option(min=0, max=100_000, help="completions that may wait beside them")
    ] = 256,
    engine: Annotated[
        str, typer.Option(help="torch or vllm; auto takes vLLM where it is installed and there is a GPU")
    ] = "auto",
    price: Annotated[
        str,
        typer.Option(
            metavar="IN,OUT", help="USD per million tokens for /metrics", show_default="R1's API prices"
        ),
    ] = "0.55,2.19",
    origin: Annotated[
        list[str] | None,
        typer.Option(
            help="web pages that may send requests from a browser, as http://localhost:3000; repeatable"
        ),
    ] = None,
) -> None:
    """Serve a model: OpenAI's API at /v1, a chat page at /, /health and /metrics."""
    from zerone.engine.vllm import chosen_engine
    from zerone.serve.application import create_app
    from zerone.serve.keys import Keys
    from zerone.serve.models import Limits, open_models
    from zerone.serve.origins import read_origins
    from zerone.serve.running import open_socket
    from zerone.serve.running import serve as run
    from zerone.serve.telemetry import Prices

    prices = Prices.read(price)
    origins = read_origins(origin or ())
    kind = chosen_engine(engine)
    keys = None if api_key_file is None else Keys.read(api_key_file)
    listener = open_socket(host, port, has_keys=keys is not None)
    named = [given for given in (model, compare) if given is not None]
    models = open_models(named, Limits(max_rows=slots, max_waiting=queue), kind)
    run(create_app(models, keys, prices, origins), listener, [served.scheduler.stop for served in models])


def chat(
    model: Model,
    temperature: Annotated[
        float | None, typer.Option(min=0, max=2, help="sampling temperature", show_default="the model's own")
    ] = None,
    max_tokens: Annotated[
        int, typer.Option(min=0, help="most tokens of a completion; 0 is up to the end of the context")
    ] = 0,
    seed: Annotated[int, typer.Option(min=0, help="random seed; 0 takes a new one for each completion")] = 0,
    think: Annotated[bool, typer.Option("--think/--no-think", help="whether the model reasons first")] = True,
    fold: Annotated[
        bool, typer.Option("--fold", help="collapse the reasoning to its time and number of tokens")
    ] = False,
) -> None:
    """Chat with a model in the terminal, or through a pipe: one prompt per line."""
    import sys

    from zerone.engine.api import SamplingParams
    from zerone.engine.serving import use_this_machine
    from zerone.serve.models import Limits, open_model
    from zerone.serve.terminal import HELP, Chat, Manner, lines_of, take_any_text

    is_terminal = sys.stdin.isatty() and sys.stdout.isatty()
    served = open_model(model, Limits(max_rows=1))
    use_this_machine(served.directory)
    sampling = SamplingParams(
        temperature=served.temperature if temperature is None else temperature,
        top_p=served.top_p,
        top_k=served.top_k,
        max_tokens=max_tokens,
        stop=served.trained_stop,
    )
    manner = Manner(sampling=sampling, seed=seed, thinks=think, shows_thought=is_terminal and not fold)
    if is_terminal:
        import readline  # noqa: F401  # gives input() its history and editing

        print(f"{served.name}: {HELP}")
    take_any_text(sys.stdin, sys.stdout)
    served.scheduler.start()
    try:
        Chat(served, manner, is_terminal=is_terminal).run(lines_of(sys.stdin, is_terminal=is_terminal))
    finally:
        served.scheduler.stop()
