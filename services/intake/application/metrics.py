"""Intake's counters, which `/metrics` shows."""

from prometheus_client import Counter

reports = Counter("trucban_reports", "Reports by what intake answered", ["outcome"])
