"""The LangGraph: state, routing, build, approval, runner."""
