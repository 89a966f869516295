"""Prometheus and Alertmanager: measurements and alerts, read only."""
