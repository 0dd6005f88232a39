"""Escalation's counters and gauges, which `/metrics` shows."""

from prometheus_client import Counter, Gauge

incidents = Counter("trucban_incident_reports", "Reports by whether they opened an incident or joined one", ["outcome"])
notices = Counter("trucban_notices", "Notices issued", ["purpose"])
deliveries = Counter("trucban_deliveries", "Delivery attempts by what came of them", ["outcome"])
forgotten = Gauge(
    "trucban_forgotten", "What should have been done and was not, by kind; zero while all is well", ["kind"]
)
forgotten_seconds = Gauge("trucban_forgotten_seconds", "Age of the oldest of it", ["kind"])
heartbeats = Counter("trucban_heartbeats", "Signs of life to the watcher outside", ["outcome"])
stream_listeners = Gauge("trucban_stream_listeners", "Clients that follow the stream")
