"""Where core dumps and executables come from: paths, uploads, URLs, node folders."""

from tools.cores.identity import CoreIdentity, identify
from tools.cores.node import find_node_cores
from tools.cores.opening import LocalCore, open_core

__all__ = ["CoreIdentity", "LocalCore", "find_node_cores", "identify", "open_core"]
