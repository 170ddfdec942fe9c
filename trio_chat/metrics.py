"""What Prometheus is told, at /metrics: the node's counters, and what can be counted when it asks."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import attrs
import trio
from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector
from websockets.datastructures import Headers

from trio_chat.counters import Histogram
from trio_chat.transport.http import Page, Reply

if TYPE_CHECKING:
    from trio_chat.node import Node

__all__ = ["NodeCollector", "metrics_page", "metrics_reply", "node_registry", "watch_loop"]

#: How often the event loop is looked at, in seconds.
_LOOK = 0.1


def metrics_page(node: Node) -> Page:
    """Serves the node's metrics, in the format that is asked for."""
    registry = node_registry(node)

    async def page(headers: Headers) -> Reply:
        await trio.lowlevel.checkpoint()
        return metrics_reply(headers, registry)

    return page


def node_registry(node: Node) -> CollectorRegistry:
    """The node's figures, and its process's."""
    registry = CollectorRegistry()
    registry.register(NodeCollector(node))
    ProcessCollector(registry=registry)
    return registry


def metrics_reply(headers: Headers, registry: CollectorRegistry) -> Reply:
    """What a registry has at this moment, in the format that the request's headers ask for."""
    encoder, content_type = choose_encoder(headers.get("Accept", ""))
    return Reply(200, encoder(registry), content_type, {"Cache-Control": "no-store"})


async def watch_loop(node: Node) -> None:
    """Measure how late the event loop is, until cancelled: what everybody who waits for it waits."""
    while True:
        due = trio.current_time() + _LOOK
        await trio.sleep_until(due)
        node.counters.loop_delay.observe(trio.current_time() - due)


class NodeCollector(Collector):
    """Reads the counters when Prometheus asks; between that nothing is done."""

    def __init__(self, node: Node) -> None:
        self._node = node

    def describe(self) -> Iterator[Metric]:
        """The names, which do not depend on what has happened so far."""
        return self.collect()

    def collect(self) -> Iterator[Metric]:
        node = self._node
        counters, router = node.counters, node.router
        info = GaugeMetricFamily("trio_chat_info", "This node; always 1", labels=["node", "version"])
        info.add_metric([node.name, node.server_name.partition("/")[2]], 1)
        yield info
        yield _gauge("draining", "1 while the node finishes and takes nobody new", node.draining)

        current = GaugeMetricFamily("trio_chat_connections", "Connections of the moment", labels=["transport"])
        opened = CounterMetricFamily(
            "trio_chat_connections_opened", "Connections that were taken", labels=["transport"]
        )
        for kind in ("tcp", "tls", "websocket"):
            current.add_metric([kind], counters.connections[kind])
            opened.add_metric([kind], counters.opened[kind])
        yield current
        yield opened
        closed = CounterMetricFamily(
            "trio_chat_connections_closed", "Connections that ended, by the reason", labels=["transport", "reason"]
        )
        for labels, count in sorted(counters.closed.items()):
            closed.add_metric(labels, count)
        yield closed
        yield _counter("connections_turned_away", "Connections there was no room for", counters.turned_away)
        yield _labelled(
            "handshakes_failed",
            "Connections that did not get through TLS or a PROXY header",
            "reason",
            counters.not_entered,
        )
        certificate = GaugeMetricFamily("trio_chat_certificate_expires_seconds", "When the certificate ends", labels=[])
        if node.certificate is not None:
            certificate.add_metric([], node.certificate.expires)
        yield certificate
        yield from _limits(node)
        yield _gauge("held_bytes", "Bytes that connections hold: unsent, half received, waiting", counters.held)
        yield _gauge("accounts_online", "Accounts that are logged in on this node", len(router.accounts))
        yield _labelled("logins", "Attempts to log in, by what came of them", "outcome", counters.logins)

        yield _counter("frames_received", "Frames that clients have sent", counters.frames)
        yield _counter("messages_stored", "Messages that this node has made durable", counters.stored)
        yield _counter("messages_delivered", "Messages queued for connections of this node", counters.delivered)
        yield _labelled("requests_rejected", "Requests that failed, by the error's name", "error", counters.rejected)
        yield _histogram("batch_messages", "Messages in one transaction", counters.batches)
        yield _histogram("commit_seconds", "How long a transaction of messages took", counters.commits)
        yield _gauge("writer_queue_messages", "Messages that await their commit", node.writer.queued)
        outbox = sum(connection.unsent for connection in node.connections)
        yield _gauge("outbox_bytes", "Bytes that wait for clients to read", outbox)

        yield _gauge("bus_up", "1 while hints from the other nodes come", router.bus_up)
        yield _histogram(
            "bus_delay_seconds", "From a message's commit elsewhere to its arrival here", counters.bus_delay
        )
        yield _counter("repaired_messages", "Messages that the bus lost and the log had", router.repaired)
        yield _gauge("holes", "Conversations that wait for a message from the log", router.holes)
        yield _gauge("tasks", "Trio tasks of this process", trio.lowlevel.current_statistics().tasks_living)
        yield _histogram("loop_delay_seconds", "How late the event loop is", counters.loop_delay)


def _limits(node: Node) -> Iterator[Metric]:
    """Every limit, and how often it was reached; those that only shape answers and batches never are."""
    values = attrs.asdict(node.settings.limits)
    reached = {name: node.counters.reached[name] for name in values} | {"logins": node.admission.waits}
    yield _labelled("limits_reached", "How often a limit was reached, by its name", "limit", reached)
    family = GaugeMetricFamily("trio_chat_limit", "The limits as they are set", labels=["limit"])
    for name, value in sorted(values.items()):
        family.add_metric([name], value)
    yield family


def _counter(name: str, text: str, value: int) -> Metric:
    return CounterMetricFamily(f"trio_chat_{name}", text, value=value)


def _gauge(name: str, text: str, value: float) -> Metric:
    return GaugeMetricFamily(f"trio_chat_{name}", text, value=value)


def _labelled(name: str, text: str, label: str, values: dict[str, int]) -> Metric:
    family = CounterMetricFamily(f"trio_chat_{name}", text, labels=[label])
    for value, count in sorted(values.items()):
        family.add_metric([value], count)
    return family


def _histogram(name: str, text: str, histogram: Histogram) -> Metric:
    buckets = []
    count = 0
    for bound, more in zip((*map(str, histogram.bounds), "+Inf"), histogram.counts, strict=True):
        count += more
        buckets.append((bound, float(count)))
    return HistogramMetricFamily(f"trio_chat_{name}", text, buckets=buckets, sum_value=histogram.total)
