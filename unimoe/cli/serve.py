"""`unimoe serve`."""

from __future__ import annotations

import logging
import os
from pathlib import Path

import click

from unimoe.cli.bundle_argument import BUNDLE
from unimoe.cli.options import THREADS, Number, Size, backend_option, trust_option
from unimoe_runtime.errors import ConfigError
from unimoe_runtime.files.text import read_text
from unimoe_serving.config import BundleSource, ServerConfig, ServerLimits

_LIMITS = ServerLimits()
_KEY_VARIABLE = "UNIMOE_API_KEY"


@click.command()
@click.argument("bundles", nargs=-1, required=True, metavar="[NAME=]BUNDLE...")
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen at; 0.0.0.0 for all.")
@click.option("--port", type=click.IntRange(0, 65535), default=8000, show_default=True, help="0 takes a free one.")
@click.option("--wyoming", default="", help="Serve Wyoming too, at an address such as tcp://127.0.0.1:10200.")
@click.option(
    "--api-key-file",
    type=click.Path(path_type=Path),
    help=f"A file with the key that requests must carry. [default: ${_KEY_VARIABLE}, or none]",
)
@click.option(
    "--cors", "cors_origins", multiple=True, help="An origin whose pages may send requests, or *; may be repeated."
)
@click.option(
    "--allowed-host", "allowed_hosts", multiple=True, help="A host name that requests may use; may be repeated."
)
@click.option("--voices", "voices_dir", type=click.Path(path_type=Path), help="A folder to keep cloned voices in.")
@click.option(
    "--max-streams", type=int, default=_LIMITS.max_streams, show_default=True, help="Largest number of streams at once."
)
@click.option(
    "--max-queue", type=int, default=_LIMITS.max_queue, show_default=True, help="Largest number of waiting requests."
)
@click.option(
    "--max-text", type=int, default=_LIMITS.max_text_characters, show_default=True, help="Longest text, in characters."
)
@click.option("--max-upload", type=Size(), default=_LIMITS.max_upload_bytes, help="Largest upload. [default: 64MiB]")
@click.option(
    "--timeout",
    type=Number(min=0),
    default=_LIMITS.stream_s,
    show_default=True,
    help="Longest time of a stream, in seconds.",
)
@click.option(
    "--drain",
    type=Number(min=0),
    default=_LIMITS.drain_s,
    show_default=True,
    help="Seconds to finish streams after SIGTERM.",
)
@backend_option
@trust_option
@click.option("--threads", type=THREADS, help="CPU threads. [default: all cores]")
@click.option("--memory-budget", type=Size(), help="Memory for each bundle's loaded experts. [default: no limit]")
@click.option("--access-log", is_flag=True, help="Log each request.")
def serve(
    bundles: tuple[str, ...],
    host: str,
    port: int,
    wyoming: str,
    api_key_file: Path | None,
    cors_origins: tuple[str, ...],
    allowed_hosts: tuple[str, ...],
    voices_dir: Path | None,
    max_streams: int,
    max_queue: int,
    max_text: int,
    max_upload: int,
    timeout: float,
    drain: float,
    backend: str,
    threads: int | None,
    memory_budget: int | None,
    access_log: bool,
) -> None:
    """Serve one or more BUNDLEs: OpenAI's speech endpoint, music, text in pieces, and a page to try them.

    A bundle's name is that of its folder, or NAME. `demo` and `voices` come with the package.
    """
    from unimoe_serving.server import run_server

    logging.basicConfig(level=logging.INFO if access_log else logging.WARNING, format="%(levelname)s: %(message)s")
    config = ServerConfig(
        bundles=tuple(_source(bundle, backend, threads, memory_budget) for bundle in bundles),
        host=host,
        port=port,
        wyoming=wyoming,
        api_key=_api_key(api_key_file),
        cors_origins=cors_origins,
        allowed_hosts=allowed_hosts,
        voices_dir=voices_dir,
        limits=ServerLimits(
            max_streams=max_streams,
            max_queue=max_queue,
            max_text_characters=max_text,
            max_upload_bytes=max_upload,
            stream_s=timeout,
            drain_s=drain,
        ),
    )
    run_server(config, announce=lambda line: click.echo(line, err=True), access_log=access_log)


def _source(bundle: str, backend: str, threads: int | None, memory_budget: int | None) -> BundleSource:
    name, separator, path = bundle.partition("=")
    if not separator or "/" in name:
        path = bundle
        resolved = Path(bundle).resolve()
        # The demo's bundle lies in build/demo/bundle: "demo" is the better name.
        name = resolved.parent.name if resolved.name == "bundle" and resolved.parent.name else resolved.name
    folder = BUNDLE.convert(path, None, None)
    return BundleSource(name=name, path=folder, backend=backend, threads=threads, memory_budget_bytes=memory_budget)


def _api_key(file: Path | None) -> str:
    """The API key from a file or the environment; empty for none."""
    if file is None:
        given = os.environ.get(_KEY_VARIABLE, "")
        if given and not given.strip():
            raise ConfigError(f"${_KEY_VARIABLE} is blank: put a key into it, or unset it")
        return given.strip()
    key = read_text(file, ConfigError, max_bytes=1 << 16).strip()
    if not key:
        raise ConfigError(f"{file} is empty: write a key into it, or leave --api-key-file out")
    return key
