"""Every setting with its default and one line of what it does; nothing here reads a file or the environment.

Sections are frozen structs; unknown names are refused by the loader. Units stand last in a name.
"""

from typing import Annotated, Literal

from msgspec import Meta, field

from slipstream.config.alerting import Alerts, Mail, Slo
from slipstream.config.profiling import Profiling
from slipstream.config.section import Bytes, Count, Port, Seconds, Section

__all__ = [
    "Alerts",
    "Embedder",
    "Keys",
    "Local",
    "Log",
    "Mail",
    "ModelPrice",
    "Models",
    "Monitoring",
    "Otlp",
    "Recording",
    "Section",
    "Server",
    "Settings",
    "Simulated",
    "Slo",
    "Upstream",
]


class Server(Section, frozen=True, kw_only=True):
    """The public HTTP server."""

    host: Annotated[str, Meta(description="Address to listen on; a public one needs a key.")] = "127.0.0.1"
    port: Annotated[Port, Meta(description="Port to listen on; 0 picks a free one.")] = 8080
    workers: Annotated[int, Meta(ge=1, le=64, description="Processes that serve the hot path.")] = 1
    allowed_hosts: Annotated[
        tuple[str, ...],
        Meta(description="Host names a request may carry beside the loopback ones; `*` = any."),
    ] = ()
    allowed_origins: Annotated[
        tuple[str, ...],
        Meta(description="Web origins, such as https://chat.example, whose pages may call the API."),
    ] = ()
    drain_seconds: Annotated[
        Seconds, Meta(description="How long running answers may finish after SIGTERM.")
    ] = 600.0
    header_seconds: Annotated[Seconds, Meta(description="Time a client has to send its header.")] = 10.0
    header_bytes: Annotated[Bytes, Meta(description="Largest header.")] = 32 * 1024
    header_count: Annotated[Count, Meta(description="Most header lines.")] = 100
    body_bytes: Annotated[Bytes, Meta(description="Largest request body.")] = 32 * 1024 * 1024
    body_bytes_per_second: Annotated[
        Count, Meta(description="Slowest a body may arrive, measured over 10 s.")
    ] = 1024
    keep_alive_seconds: Annotated[Seconds, Meta(description="How long an idle connection is kept.")] = 75.0
    write_seconds: Annotated[
        Seconds, Meta(description="How long a client may leave its answer unread before it is dropped.")
    ] = 30.0
    connections: Annotated[Count, Meta(description="Most open connections of one worker.")] = 4096


class Local(Section, frozen=True, kw_only=True):
    """The embedded model: llama.cpp in a child process."""

    enabled: Annotated[
        Literal["auto", "on", "off"],
        Meta(description="auto: on where no upstream is configured and the model is installed."),
    ] = "auto"
    name: Annotated[str, Meta(description="The name that requests ask for.")] = "smollm2-135m-instruct"
    path: Annotated[str, Meta(description="A GGUF file; empty = the SmolLM2 of `slipstream pull`.")] = ""
    sha256: Annotated[str, Meta(description="Refuse `path` unless it has this digest; empty = no check.")] = (
        ""
    )
    slots: Annotated[int, Meta(ge=1, le=64, description="Requests decoded at the same time.")] = 4
    context_tokens: Annotated[int, Meta(ge=256, description="Context of each slot, in tokens.")] = 2048
    threads: Annotated[
        int,
        Meta(
            ge=0,
            description="Threads for inference; 0 = one a core, less one where there are more than two.",
        ),
    ] = 0
    system_prompt: Annotated[
        str, Meta(description="System prompt where a request has none; empty = none.")
    ] = "You are a helpful assistant."
    temperature: Annotated[float, Meta(ge=0, le=2, description="Temperature where a request has none.")] = 0.0
    repeat_penalty: Annotated[
        float,
        Meta(gt=0, le=2, description="Repeat penalty of a chat that says nothing of repetition; 1 = none."),
    ] = 1.1
    output_tokens: Annotated[int, Meta(ge=1, description="Longest answer where a request has no bound.")] = (
        1024
    )
    start_seconds: Annotated[Seconds, Meta(description="How long the model may take to load.")] = 120.0
    waiting: Annotated[
        int, Meta(ge=0, description="Most requests of one worker waiting for a slot; beyond it 503.")
    ] = 256
    prompt_cache_mib: Annotated[
        int,
        Meta(ge=0, description="Memory for prompts that lost their slot; llama.cpp's own default is 8,192."),
    ] = 64


class Embedder(Section, frozen=True, kw_only=True):
    """The embedding model: MiniLM on ONNX, in a thread of the worker."""

    enabled: Annotated[Literal["auto", "on", "off"], Meta(description="auto: on where it is installed.")] = (
        "auto"
    )
    name: Annotated[str, Meta(description="The name that requests ask for.")] = "all-minilm-l6-v2"
    path: Annotated[str, Meta(description="An ONNX file; empty = the installed one.")] = ""
    sha256: Annotated[str, Meta(description="Refuse `path` unless it has this digest; empty = no check.")] = (
        ""
    )
    threads: Annotated[int, Meta(ge=1, le=64, description="Threads for inference.")] = 1
    queue: Annotated[Count, Meta(description="Most texts waiting; beyond it requests are refused.")] = 1024
    texts: Annotated[int, Meta(ge=1, le=2048, description="Most texts of one request.")] = 256


class Upstream(Section, frozen=True, kw_only=True):
    """An OpenAI-compatible server behind us."""

    url: Annotated[str, Meta(description="Base URL, such as https://api.openai.com/v1.")]
    key_env: Annotated[str, Meta(description="Environment variable that holds its API key.")] = ""
    key_file: Annotated[str, Meta(description="File that holds its API key.")] = ""
    models: Annotated[
        tuple[str, ...],
        Meta(description="Models it serves; empty = ask it; `*` = whatever is asked for."),
    ] = ()
    weight: Annotated[
        float, Meta(gt=0, le=1000, description="Its share of the requests beside others with the same model.")
    ] = 1.0
    caches_prompts: Annotated[
        bool, Meta(description="It caches prompts: a conversation stays with it while it is not far busier.")
    ] = False
    proxy: Annotated[
        str, Meta(description="HTTP proxy to reach it through, such as http://proxy:3128; empty = none.")
    ] = ""
    connections: Annotated[Count, Meta(description="Most connections of one worker to it.")] = 256
    waiting: Annotated[int, Meta(ge=0, description="Most requests waiting for a connection.")] = 1024
    wait_seconds: Annotated[Seconds, Meta(description="Longest wait for a connection.")] = 10.0
    idle_seconds: Annotated[Seconds, Meta(description="How long an unused connection is kept.")] = 30.0
    life_seconds: Annotated[Seconds, Meta(description="Oldest a connection may get.")] = 600.0
    ca_file: Annotated[
        str, Meta(description="PEM file of the authority to trust instead of the system's.")
    ] = ""


class Simulated(Section, frozen=True, kw_only=True):
    """A scripted model without weights, for tests and dry runs."""

    ttft_ms: Annotated[float, Meta(ge=0, description="Median time to first token, empty prompt.")] = 0.0
    ttft_ms_per_1k_tokens: Annotated[float, Meta(ge=0, description="Added per 1,000 prompt tokens.")] = 0.0
    itl_ms: Annotated[float, Meta(ge=0, description="Median time between tokens.")] = 0.0
    spread: Annotated[float, Meta(ge=0, le=3, description="Sigma of the log-normal around both medians.")] = (
        0.0
    )
    slots: Annotated[int, Meta(ge=0, description="Requests served at once; 0 = no bound.")] = 0
    slowdown: Annotated[
        float, Meta(ge=0, description="Share by which each further running request slows the others.")
    ] = 0.0
    output_tokens: Annotated[
        Count, Meta(description="Tokens of an answer where the request has no bound.")
    ] = 16
    error_rate: Annotated[float, Meta(ge=0, le=1, description="Share of requests answered with 500.")] = 0.0
    seed: Annotated[int, Meta(description="Seed of every random draw.")] = 0


class Models(Section, frozen=True, kw_only=True):
    """Which models there are, and which one is the default."""

    default: Annotated[
        str, Meta(description="Model of requests that name none; empty = the first there is.")
    ] = ""
    aliases: Annotated[
        dict[str, str], Meta(description="Other names of models; shown in `slipstream models`.")
    ] = field(default_factory=dict)
    fallbacks: Annotated[
        dict[str, tuple[str, ...]],
        Meta(description="What answers, in order, where a model has no upstream left; bad requests never."),
    ] = field(default_factory=dict)
    local: Local = Local()
    embedder: Embedder = Embedder()
    upstreams: Annotated[
        dict[str, Upstream], Meta(description="OpenAI-compatible servers, by a name of yours.")
    ] = field(default_factory=dict)
    simulated: Annotated[
        dict[str, Simulated], Meta(description="Simulated models, by the name requests ask for.")
    ] = field(default_factory=dict)
    attempts: Annotated[int, Meta(ge=1, le=5, description="Tries before the first byte of an answer.")] = 2
    retry_share: Annotated[
        float, Meta(ge=0, le=1, description="Most retries, as a share of the requests of the last 60 s.")
    ] = 0.1
    retry_minimum: Annotated[
        int, Meta(ge=0, description="Retries in 60 s that are granted however few requests there are.")
    ] = 10
    wait_seconds: Annotated[
        float,
        Meta(
            ge=0,
            description="Longest wait for an upstream to come back where none is free, and for the embedded "
            "model to load where nothing stands in for it.",
        ),
    ] = 10.0
    waiting: Annotated[int, Meta(ge=0, description="Most requests of one worker that wait so.")] = 1024
    breaker_failures: Annotated[
        Count, Meta(description="Failures in a row after which an upstream's model is left alone.")
    ] = 5
    breaker_error_rate: Annotated[
        float, Meta(gt=0, le=1, description="Share of failures in 10 s, clearly beyond which it is too.")
    ] = 0.5
    breaker_open_seconds: Annotated[
        Seconds, Meta(description="How long it is left alone at first; doubled each time it fails again.")
    ] = 5.0
    breaker_open_seconds_max: Annotated[Seconds, Meta(description="And at most.")] = 30.0
    retry_after_seconds: Annotated[
        float, Meta(ge=0, description="Longest `Retry-After` of an upstream that is obeyed.")
    ] = 60.0
    discover_seconds: Annotated[
        Seconds, Meta(description="How often an upstream without `models` is asked for them.")
    ] = 60.0
    connect_seconds: Annotated[Seconds, Meta(description="Time to connect to an upstream.")] = 5.0
    first_token_seconds: Annotated[Seconds, Meta(description="Time to the first byte, of each try.")] = 60.0
    idle_seconds: Annotated[Seconds, Meta(description="Longest silence inside an answer.")] = 30.0
    total_seconds: Annotated[Seconds, Meta(description="Longest an answer may take in all.")] = 600.0
    event_bytes: Annotated[Bytes, Meta(description="Largest server-sent event of an upstream.")] = 1024 * 1024
    answer_bytes: Annotated[Bytes, Meta(description="Largest unstreamed answer of an upstream.")] = (
        64 * 1024 * 1024
    )
    backlog_bytes: Annotated[
        Bytes, Meta(description="Bytes kept for a slow reader before the upstream is paused.")
    ] = 256 * 1024


class Keys(Section, frozen=True, kw_only=True):
    """Who may call the API."""

    required: Annotated[
        Literal["auto", "always", "never"],
        Meta(description="auto: as soon as a key exists, or off loopback. never: loopback only."),
    ] = "auto"
    path: Annotated[str, Meta(description="SQLite file of the keys; empty = in the data folder.")] = ""
    session_seconds: Annotated[
        Seconds, Meta(description="How long a browser that logged in to the pages stays so.")
    ] = 7 * 24 * 3600.0


class Recording(Section, frozen=True, kw_only=True):
    """What is written down of every request."""

    enabled: Annotated[bool, Meta(description="Whether requests are recorded.")] = True
    path: Annotated[str, Meta(description="SQLite file of the records; empty = in the data folder.")] = ""
    queue: Annotated[
        Count, Meta(description="Records waiting to be written; beyond it they are dropped and counted.")
    ] = 20_000
    batch: Annotated[Count, Meta(description="Most records in one commit.")] = 500
    flush_ms: Annotated[Count, Meta(description="Longest a record waits for its commit.")] = 100
    keep_days: Annotated[float, Meta(gt=0, description="Age at which records are deleted.")] = 30.0
    keep_bytes: Annotated[
        int, Meta(ge=1024 * 1024, description="Size above which the oldest are deleted.")
    ] = 2 * 1024**3


class ModelPrice(Section, frozen=True, kw_only=True):
    """What a model costs, in US dollars for a million tokens."""

    input: Annotated[float, Meta(ge=0, description="Price of a million prompt tokens.")]
    output: Annotated[float, Meta(ge=0, description="Price of a million output tokens.")] = 0.0
    cached: Annotated[
        float, Meta(ge=-1, description="Price of a million cached prompt tokens; below 0 = as any other.")
    ] = -1.0


class Otlp(Section, frozen=True, kw_only=True):
    """Where metrics and traces are sent as OTLP over HTTP."""

    url: Annotated[
        str, Meta(description="Base URL of a collector, such as http://127.0.0.1:4318; empty = none is sent.")
    ] = ""
    encoding: Annotated[Literal["protobuf", "json"], Meta(description="How the messages are written.")] = (
        "protobuf"
    )
    headers_env: Annotated[
        str, Meta(description="Environment variable that holds further headers: `name=value,name=value`.")
    ] = ""
    interval_seconds: Annotated[Seconds, Meta(description="How often metrics are sent.")] = 60.0
    timeout_seconds: Annotated[Seconds, Meta(description="How long one sending may take.")] = 10.0
    traces: Annotated[bool, Meta(description="Whether recorded requests are sent as traces.")] = True
    trace_queue: Annotated[
        Count, Meta(description="Records waiting to be sent; beyond it they are dropped and counted.")
    ] = 2048


class Monitoring(Section, frozen=True, kw_only=True):
    """What is measured, what it costs, and where it is sent."""

    prices: Annotated[
        dict[str, ModelPrice],
        Meta(
            description="Prices that the shipped snapshot lacks or has wrong, by model or `upstream/model`."
        ),
    ] = field(default_factory=dict)
    scrape_upstreams: Annotated[
        Literal["auto", "on", "off"],
        Meta(description="Read the metrics of vLLM and llama.cpp upstreams; auto: of those without TLS."),
    ] = "auto"
    scrape_seconds: Annotated[Seconds, Meta(description="How often they are read.")] = 5.0
    otlp: Otlp = Otlp()


class Log(Section, frozen=True, kw_only=True):
    """What the server says on standard error. Never message text."""

    level: Annotated[Literal["debug", "info", "warning", "error"], Meta(description="Least level shown.")] = (
        "info"
    )
    format: Annotated[
        Literal["auto", "text", "json"], Meta(description="auto: text on a terminal, JSON elsewhere.")
    ] = "auto"


class LoadTesting(Section, frozen=True, kw_only=True):
    """Load and stress tests: how long they really take, and the most that they may do."""

    time_scale: Annotated[
        float,
        Meta(gt=0, le=1, description="Durations of tests are multiplied by it; shown in every result."),
    ] = 1.0
    users: Annotated[int, Meta(ge=1, le=100_000, description="Most concurrent users of a test.")] = 10_000
    rate: Annotated[float, Meta(gt=0, description="Most requests per second of a test.")] = 100_000.0
    seconds: Annotated[Seconds, Meta(description="Longest test.")] = 3600.0
    requests: Annotated[int, Meta(ge=1, le=10_000_000, description="Most requests of a test.")] = 1_000_000
    bytes: Annotated[int, Meta(ge=1024, description="Most bytes a test may receive.")] = 16 * 1024**3
    workers: Annotated[
        int, Meta(ge=0, le=64, description="Processes that send; 0 = one a core that is to spare.")
    ] = 0
    grace_seconds: Annotated[
        float, Meta(ge=0, description="Longest wait for answers after a test's last request.")
    ] = 30.0
    prompt_tokens: Annotated[
        Count, Meta(description="Length of made-up prompts where a test says nothing.")
    ] = 64
    output_tokens: Annotated[
        Count, Meta(description="Longest answers to ask for where a test says nothing.")
    ] = 16
    kept: Annotated[int, Meta(ge=1, le=10_000, description="Results that are kept; the oldest go.")] = 200


class Settings(Section, frozen=True, kw_only=True):
    """All settings of one Slipstream."""

    server: Server = Server()
    models: Models = Models()
    keys: Keys = Keys()
    record: Recording = Recording()
    monitoring: Monitoring = Monitoring()
    alerts: Alerts = Alerts()
    slo: Annotated[
        dict[str, Slo], Meta(description="Objectives that alerts ask of with `burn`, by a name of yours.")
    ] = field(default_factory=dict)
    mail: Mail = Mail()
    profiling: Profiling = Profiling()
    log: Log = Log()
    testing: LoadTesting = LoadTesting()
    data_folder: Annotated[
        str, Meta(description="Where models, records and keys are kept; empty = the user's data folder.")
    ] = ""
    state_folder: Annotated[
        str, Meta(description="Where live servers register; empty = the user's state folder.")
    ] = ""
