"""Counters of the domain, beside the process's own; `/metrics` shows them (Prometheus text format)."""

from prometheus_client import Counter

reports = Counter("trucban_reports", "Reports by what intake answered", ["outcome"])
incidents = Counter("trucban_incident_reports", "Reports by whether they opened an incident or joined one", ["outcome"])
notices = Counter("trucban_notices", "Notices issued", ["purpose"])
deliveries = Counter("trucban_deliveries", "Delivery attempts by what came of them", ["outcome"])
