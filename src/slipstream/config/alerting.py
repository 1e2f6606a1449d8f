"""The settings of alerts: rules, who is told of what, the mail server, and objectives."""

from typing import Annotated, Literal

from msgspec import Meta, field

from slipstream.config.section import Count, Port, Seconds, Section


class Receiver(Section, frozen=True, kw_only=True):
    """Somebody who is told of alerts."""

    kind: Annotated[
        Literal["webhook", "slack", "mail"],
        Meta(description="webhook: Alertmanager's JSON, version 4. slack: a Slack webhook. mail: e-mail."),
    ]
    url: Annotated[str, Meta(description="Where a webhook is sent to.")] = ""
    url_env: Annotated[
        str, Meta(description="Environment variable that holds the URL, for one that is a secret.")
    ] = ""
    secret_env: Annotated[
        str, Meta(description="Environment variable that holds the key a webhook is signed with.")
    ] = ""
    to: Annotated[tuple[str, ...], Meta(description="E-mail addresses.")] = ()
    resolved: Annotated[bool, Meta(description="Whether it is told as well when an alert is over.")] = True
    ca_file: Annotated[
        str, Meta(description="PEM file of the authority to trust instead of the system's.")
    ] = ""


class Routes(Section, frozen=True, kw_only=True):
    """Which receivers are told of which severity, by their names."""

    info: Annotated[tuple[str, ...], Meta(description="Receivers of alerts of severity info.")] = ()
    warning: Annotated[tuple[str, ...], Meta(description="Receivers of alerts of severity warning.")] = ()
    critical: Annotated[tuple[str, ...], Meta(description="Receivers of alerts of severity critical.")] = ()


class AlertRule(Section, frozen=True, kw_only=True):
    """A rule, under the name of your choice."""

    condition: Annotated[str, Meta(description="When it fires, such as `response_time > 5 s for 2m`.")]
    severity: Annotated[
        Literal["info", "warning", "critical"], Meta(description="How bad that is; decides who is told.")
    ] = "warning"


class Alerts(Section, frozen=True, kw_only=True):
    """Rules that are watched every second, and who is told."""

    enabled: Annotated[bool, Meta(description="Whether rules are watched.")] = True
    path: Annotated[str, Meta(description="SQLite file of the alerts; empty = in the data folder.")] = ""
    routes: Routes = Routes()
    receivers: Annotated[dict[str, Receiver], Meta(description="Those who are told, by a name of yours.")] = (
        field(default_factory=dict)
    )
    rules: Annotated[dict[str, AlertRule], Meta(description="Rules, by a name of yours.")] = field(
        default_factory=dict
    )
    url: Annotated[
        str, Meta(description="Where people reach the pages, for links in messages; empty = as it listens.")
    ] = ""
    wait_seconds: Annotated[
        float, Meta(ge=0, description="How long a first message waits for what else breaks.")
    ] = 10.0
    interval_seconds: Annotated[
        float, Meta(ge=0, description="Least time between two messages of one severity to a receiver.")
    ] = 60.0
    repeat_seconds: Annotated[
        Seconds, Meta(description="How often a receiver is told again of what still fires.")
    ] = 4 * 3600.0
    delivery_seconds: Annotated[Seconds, Meta(description="How long one delivery may take.")] = 10.0
    delivery_hours: Annotated[
        float, Meta(gt=0, description="How long a message is tried before it is given up and kept.")
    ] = 24.0
    outbox: Annotated[
        Count, Meta(description="Most messages waiting; beyond it new ones are given up at once.")
    ] = 1000
    history: Annotated[Count, Meta(description="Alerts and messages that are kept to be looked at.")] = 10_000


class Mail(Section, frozen=True, kw_only=True):
    """The mail server that alerts and reports are sent through."""

    host: Annotated[str, Meta(description="Its name or address; empty = no mail is sent.")] = ""
    port: Annotated[Port, Meta(description="Its port: 587 for starttls, 465 for tls, 25 for none.")] = 587
    tls: Annotated[
        Literal["none", "starttls", "tls"],
        Meta(description="starttls is asked for and required; none sends in the clear."),
    ] = "starttls"
    username: Annotated[str, Meta(description="User name; empty = no login.")] = ""
    password_env: Annotated[str, Meta(description="Environment variable that holds the password.")] = ""
    sender: Annotated[str, Meta(description="Address that mail comes from.")] = ""
    ca_file: Annotated[
        str, Meta(description="PEM file of the authority to trust instead of the system's.")
    ] = ""
    seconds: Annotated[Seconds, Meta(description="How long one step of sending may take.")] = 20.0


class Slo(Section, frozen=True, kw_only=True):
    """An objective that `burn` asks of: a share of requests that must be good."""

    objective: Annotated[
        float, Meta(gt=0, lt=100, description="Percent of the requests that must be good, such as 99.9.")
    ]
    latency_ms: Annotated[
        float, Meta(ge=0, description="Good is an answer within this time; 0 = one without an error.")
    ] = 0.0
    model: Annotated[str, Meta(description="Only the requests of this model; empty = all.")] = ""
