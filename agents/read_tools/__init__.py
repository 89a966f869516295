"""The read-only tools that a model may call: the cluster within the incident's namespaces, the snapshot that the rules
saw, and the open core. There is no tool that writes, none that reads a Secret, and none that takes a command."""

from agents.read_tools.cluster import cluster_tools
from agents.read_tools.core import core_tools
from agents.read_tools.snapshot import objects_of, snapshot_tools

__all__ = ["cluster_tools", "core_tools", "objects_of", "snapshot_tools"]
