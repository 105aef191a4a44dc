"""The server as a Ray Serve deployment: replicas on the machines of a cluster, with more replicas when requests wait.

    serve run unimoe_serving.ray:build_app bundle=/models/demo

    from ray import serve
    serve.run(deploy(ServerConfig(bundles=(BundleSource(name="demo", path=Path("/models/demo")),))))

A replica takes requests once its bundles are loaded and warm. Its only state is the cloned voices: give replicas one
shared folder, or none.
"""

from __future__ import annotations

from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from unimoe_runtime.errors import ConfigError
from unimoe_serving.app import create_app
from unimoe_serving.config import BundleSource, ServerConfig

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from ray.serve import Application
    from starlette.applications import Starlette


@dataclass(frozen=True, kw_only=True)
class Scaling:
    """The number of replicas, and when it changes.

    Ray adds replicas while each has more than `target_streams` requests in progress, and removes them when they have
    fewer. `num_cpus`: CPUs that a replica reserves.
    """

    min_replicas: int = 1
    max_replicas: int = 4
    target_streams: float = 4.0
    num_cpus: float = 1.0

    def __post_init__(self) -> None:
        if not 0 <= self.min_replicas <= self.max_replicas or self.max_replicas < 1:
            raise ConfigError(f"replicas are {self.min_replicas} to {self.max_replicas}; give 0 or more to 1 or more")
        if not self.target_streams > 0:
            raise ConfigError(f"target_streams is {self.target_streams}; it must be above 0")


def deploy(config: ServerConfig, scaling: Scaling | None = None) -> Application:
    """A deployment of one server's configuration, for `serve.run`.

    Ray's own proxy listens; `host` and `port` of the configuration are not used, and any host name may call. A request
    beyond `max_streams` of all replicas waits in Ray; beyond `max_queue`, Ray answers 503.
    """
    from ray import serve

    scaling = scaling or Scaling()
    config = replace(config, host="0.0.0.0", wyoming="")
    deployment = serve.deployment(
        name="unimoe",
        max_ongoing_requests=config.limits.max_streams,
        max_queued_requests=config.limits.max_queue or -1,
        graceful_shutdown_timeout_s=config.limits.drain_s,
        health_check_period_s=2.0,
        health_check_timeout_s=10.0,
        ray_actor_options={"num_cpus": scaling.num_cpus},
        autoscaling_config={
            "min_replicas": scaling.min_replicas,
            "initial_replicas": max(1, scaling.min_replicas),
            "max_replicas": scaling.max_replicas,
            "target_ongoing_requests": scaling.target_streams,
        },
    )
    application: Application = deployment(serve.ingress(lambda: _ready_app(config))()).bind()
    return application


def build_app(arguments: dict[str, Any]) -> Application:
    """For `serve run unimoe_serving.ray:build_app bundle=PATH [name=…] [max_replicas=…] [target_streams=…]`."""
    scales = {"min_replicas": int, "max_replicas": int, "target_streams": float, "num_cpus": float}
    unknown = sorted(set(arguments) - {"bundle", "name", *scales})
    if unknown or "bundle" not in arguments:
        raise ConfigError(f"give bundle=PATH, and of name, {', '.join(scales)} what you need; not {unknown}")
    path = Path(str(arguments["bundle"])).resolve()
    source = BundleSource(name=str(arguments.get("name", path.name)), path=path)
    try:
        given = {name: read(arguments[name]) for name, read in scales.items() if name in arguments}
    except ValueError as error:
        raise ConfigError(f"{', '.join(scales)} are numbers ({error})") from None
    return deploy(ServerConfig(bundles=(source,)), Scaling(**given))


def _ready_app(config: ServerConfig) -> Starlette:
    """The application. Its start waits for its bundles, so Ray sends no request before they are ready."""
    app = create_app(config)
    started = app.router.lifespan_context

    @asynccontextmanager
    async def lifespan(application: Starlette) -> AsyncIterator[Any]:
        async with started(application) as state:
            await app.state.service.loaded()
            yield state

    app.router.lifespan_context = lifespan
    return app
