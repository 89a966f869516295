"""The LangGraph: state, routing, build, approval, runner."""

import os

# read by langgraph when it is imported: checkpoints may only rebuild the types that the state declares
os.environ.setdefault("LANGGRAPH_STRICT_MSGPACK", "true")
# a run's state would leave the machine with a trace; nobody asked for that by having a variable set for another program
os.environ["LANGSMITH_TRACING"] = "false"
os.environ["LANGCHAIN_TRACING_V2"] = "false"
