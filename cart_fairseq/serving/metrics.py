"""The service's metrics, in the format of Prometheus."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, PlatformCollector, ProcessCollector
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest

SECONDS = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30)
SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 256)


class Metrics:
    """Counters, gauges and histograms of one service."""

    content_type = CONTENT_TYPE_LATEST

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        PlatformCollector(registry=self.registry)
        own = self.registry
        self.requests = Counter("cart_requests", "Answered requests", ["route", "status"], registry=own)
        self.refusals = Counter("cart_refusals", "Searches that were not answered", ["reason"], registry=own)
        self.waiting = Gauge("cart_queue_queries", "Queries that wait for a search", registry=own)
        self.capacity = Gauge("cart_queue_capacity_queries", "Queries that may wait", registry=own)
        self.batches = Histogram("cart_batch_queries", "Queries in one search", buckets=SIZES, registry=own)
        self.waits = Histogram("cart_wait_seconds", "Time of a request in the queue", buckets=SECONDS, registry=own)
        self.searches = Histogram("cart_search_seconds", "Time of one search", buckets=SECONDS, registry=own)
        self.revision = Gauge("cart_catalogue_revision", "Revision of the catalogue that answers", registry=own)
        self.items = Gauge("cart_catalogue_items", "Items of the catalogue that answers", registry=own)
        self.swaps = Counter("cart_catalogue_swaps", "Catalogues or checkpoints taken over while serving", registry=own)
        self.damaged = Counter("cart_catalogue_refused", "Catalogues or checkpoints that were refused", registry=own)
        self.ready = Gauge("cart_ready", "1 if the service is ready, 0 if it ends", registry=own)

    def text(self) -> bytes:
        """Return all values in the format of Prometheus."""
        return generate_latest(self.registry)
