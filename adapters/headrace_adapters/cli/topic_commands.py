"""``topics create``, ``describe`` and ``check``: the topics of an app at a Kafka cluster."""

from __future__ import annotations

__all__ = ["topics"]

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer
from rich.table import Table
from rich.text import Text

from headrace_adapters.cli.exit_codes import ExitCode
from headrace_adapters.cli.kafka_apps import kafka_app, silent_logger
from headrace_adapters.cli.options import AppOption, DebugOption, JsonOption, UrlOption
from headrace_adapters.cli.output import Output, duration_text
from headrace_adapters.settings import Settings, load_settings
from headrace_topics.names import TOPICS

if TYPE_CHECKING:
    from headrace_adapters.kafka.settings import KafkaSettings
    from headrace_adapters.kafka.topic_checks import TopicProblem
    from headrace_adapters.kafka.topic_plan import ClusterState, TopicState

topics = typer.Typer(name="topics", no_args_is_help=True, help="The topics of an app at a Kafka cluster.")


@topics.callback()
def _topics() -> None:
    """The topics of an app at a Kafka cluster."""


class _Place(NamedTuple):
    """An app at a cluster, and the client that reaches it."""

    settings: KafkaSettings
    admin: Any


@topics.command()
def create(
    partitions: Annotated[
        int | None, typer.Option("--partitions", metavar="N", min=1, help="of new topics that are keyed by run (8)")
    ] = None,
    replication: Annotated[
        int | None, typer.Option("--replication", metavar="N", min=1, help="copies of each (3, or one a broker)")
    ] = None,
    empty: Annotated[
        bool, typer.Option("--empty", help="also what has been there before and is gone: its runs are lost")
    ] = False,
    url: UrlOption = None,
    app: AppOption = None,
    as_json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Create the topics that are missing, then check all of them. What exists is not changed."""
    with Output(as_json, debug) as output:
        settings = load_settings(url=url, partitions=partitions, replication=replication)
        place = _open(settings, app, debug=debug)
        from headrace_adapters.kafka.topic_layout import create as create_topics
        from headrace_adapters.kafka.topic_layout import inspect

        created = create_topics(place.admin, place.settings, empty=empty)
        cluster, problems = inspect(place.admin, place.settings)
        if output.as_json:
            output.data({**_head(place, cluster), "created": created, **_verdict(problems)})
        else:
            for name in created:
                output.line(("created ", "green"), name)
            if not created:
                output.note(("all topics were there already", "dim"))
            _show_problems(output, problems)
        output.end(_code(problems))


@topics.command()
def describe(url: UrlOption = None, app: AppOption = None, as_json: JsonOption = False, debug: DebugOption = False) -> None:
    """Show the topics as they are: partitions, copies, and the configuration that matters."""
    with Output(as_json, debug) as output:
        place = _open(load_settings(url=url), app, debug=debug)
        from headrace_adapters.kafka.topic_layout import describe as describe_topics

        cluster = describe_topics(place.admin, place.settings)
        if output.as_json:
            output.data({**_head(place, cluster), "topics": _rows(place, cluster)})
        else:
            _show_topics(output, place, cluster)


@topics.command()
def check(url: UrlOption = None, app: AppOption = None, as_json: JsonOption = False, debug: DebugOption = False) -> None:
    """Tell what is wrong with the topics, and what to do; exit code 1 if no worker would start on them."""
    with Output(as_json, debug) as output:
        place = _open(load_settings(url=url), app, debug=debug)
        from headrace_adapters.kafka.topic_layout import inspect

        cluster, problems = inspect(place.admin, place.settings)
        if output.as_json:
            output.data({**_head(place, cluster), **_verdict(problems)})
        else:
            _show_problems(output, problems)
            if not problems:
                output.line(("✔ ", "green"), f"the topics of {place.settings.app} are as they should be")
        output.end(_code(problems))


def _open(settings: Settings, target: str | None, *, debug: bool) -> _Place:
    at = kafka_app(settings, target, "topics")
    from headrace_adapters.kafka.connection import admin, open_admin

    return _Place(at, open_admin(admin(at), None if debug else silent_logger()))


def _head(place: _Place, cluster: ClusterState) -> dict[str, Any]:
    return {"app": place.settings.app, "clusterId": cluster.cluster_id, "brokers": cluster.brokers}


def _verdict(problems: list[TopicProblem]) -> dict[str, Any]:
    told = [
        {"code": it.code, "topic": it.topic, "message": it.what, "advice": it.to_do, "fatal": it.fatal} for it in problems
    ]
    return {"ok": _code(problems) == ExitCode.OK, "problems": told}


def _code(problems: list[TopicProblem]) -> ExitCode:
    return ExitCode.FAILED if any(problem.fatal for problem in problems) else ExitCode.OK


def _rows(place: _Place, cluster: ClusterState) -> list[dict[str, Any]]:
    rows = []
    for spec in TOPICS:
        topic = cluster.topics.get(spec.name)
        row: dict[str, Any] = {
            "name": f"{place.settings.app}.{spec.name}",
            "exists": topic is not None,
            "meaning": spec.meaning,
        }
        if topic is not None:
            row |= {
                "id": topic.topic_id,
                "partitions": topic.partitions,
                "replication": topic.replication,
                "config": dict(topic.config),
            }
        rows.append(row)
    return rows


def _show_problems(output: Output, problems: list[TopicProblem]) -> None:
    for problem in problems:
        style = "red" if problem.fatal else "yellow"
        kind = "" if problem.fatal else "warning "
        output.line((f"{kind}{problem.code}", style), f" at {problem.topic}: {problem.what}")
        output.line(("    ", ""), (problem.to_do, "dim"))


def _show_topics(output: Output, place: _Place, cluster: ClusterState) -> None:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    for name in ("topic", "partitions", "copies", "in sync", "cleanup", "kept", "record bytes"):
        right = name in ("partitions", "copies", "in sync", "record bytes")
        table.add_column(name, justify="right" if right else "left", no_wrap=True)
    for spec in TOPICS:
        topic = cluster.topics.get(spec.name)
        name = f"{place.settings.app}.{spec.name}"
        if topic is None:
            table.add_row(Text(name), Text("missing", "red"))
        else:
            table.add_row(Text(name), *(Text(cell) for cell in _cells(topic)))
    output.table(table)
    output.note((f"cluster {cluster.cluster_id}, {_counted(cluster.brokers, 'broker')}", "dim"))


def _cells(topic: TopicState) -> tuple[str, ...]:
    config: Mapping[str, str] = topic.config
    return (
        str(topic.partitions),
        str(topic.replication),
        config.get("min.insync.replicas", ""),
        config.get("cleanup.policy", ""),
        _kept(config),
        config.get("max.message.bytes", ""),
    )


def _kept(config: Mapping[str, str]) -> str:
    if "delete" not in config.get("cleanup.policy", "delete"):
        return "the last of a key"
    kept_ms = int(config.get("retention.ms", -1))
    return "for ever" if kept_ms < 0 else duration_text(kept_ms)


def _counted(count: int, what: str) -> str:
    return f"{count} {what}" if count == 1 else f"{count} {what}s"
