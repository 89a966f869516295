"""Fault scenarios on a real cluster, and their scoring. The top room: it drives the service as its callers do."""
