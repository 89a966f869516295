"""The compiled graph: its nodes and the policy of each."""

from __future__ import annotations

from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import BaseCheckpointSaver
from langgraph.graph import START, StateGraph
from langgraph.graph.state import CompiledStateGraph

from graph.nodes import Nodes
from graph.state import State

# the supervisor's own limit ends an incident long before; this one only stops a graph that forgot it
RECURSION_LIMIT = 100


def build_graph(nodes: Nodes, saver: BaseCheckpointSaver[str]) -> CompiledStateGraph[State, None, State, State]:
    """Assemble and compile. Routes are the `Literal`s of each node's return type; there is no static edge but START.

    No node has a retry policy: tools retry what is safe to retry, and the gate's steps are never repeated blindly.
    """
    graph = StateGraph(State)
    for node in (
        nodes.supervisor,
        nodes.researcher,
        nodes.analyst,
        nodes.gdb_analyst,
        nodes.k8s_fixer,
        nodes.notifier,
        nodes.request_approval,
        nodes.approval,
        nodes.execute,
        nodes.verify,
        nodes.undo,
        nodes.look_again,
        nodes.finish,
    ):
        graph.add_node(node.__name__, node)
    graph.add_edge(START, "supervisor")
    return graph.compile(checkpointer=saver)


def thread(incident_id: str) -> RunnableConfig:
    """The graph thread of an incident has the incident's id."""
    return {"configurable": {"thread_id": incident_id}, "recursion_limit": RECURSION_LIMIT}
