"""The worker daemon: it asks a control plane for jobs, runs them on this host and reports how they end."""

__version__ = "0.1.0"
