"""The LangGraph: state, routing, build, approval, runner."""

import os

# read by langgraph when it is imported: checkpoints may only rebuild the types that the state declares
os.environ.setdefault("LANGGRAPH_STRICT_MSGPACK", "true")
