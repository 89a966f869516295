"""The measured traps of LangGraph that can be excluded by the shape of the code.

Each test names the trap: what the library does in silence, and what of this graph's shape keeps it from happening.
"""

from __future__ import annotations

import ast
from pathlib import Path
from typing import get_args, get_type_hints

import pytest
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph.state import CompiledStateGraph

import graph.nodes
from agents.supervisor import Route
from graph.build import build_graph, thread
from graph.nodes import Nodes
from graph.state import State

ROOMS = ["graph", "agents", "actions", "tools", "api"]
ROOT = Path(graph.nodes.__file__).parent.parent


@pytest.fixture
def compiled() -> CompiledStateGraph[State, None, State, State]:
    """The real graph; its nodes are never run here, so they need no services."""
    return build_graph(object.__new__(Nodes), InMemorySaver())


def functions_with_interrupt() -> list[tuple[Path, ast.AsyncFunctionDef | ast.FunctionDef]]:
    found = []
    for room in ROOMS:
        for path in (ROOT / room).rglob("*.py"):
            text = path.read_text()
            if "interrupt" not in text:  # the rest takes a second to walk
                continue
            for node in ast.walk(ast.parse(text)):
                if isinstance(node, ast.AsyncFunctionDef | ast.FunctionDef) and any(
                    isinstance(call, ast.Call) and isinstance(call.func, ast.Name) and call.func.id == "interrupt"
                    for call in ast.walk(node)
                ):
                    found.append((path, node))
    return found


def test_nothing_stands_before_the_interrupt_and_nothing_catches_around_it() -> None:
    # code before an interrupt runs again on every resume; `except Exception` around it passes the gate
    ((path, function),) = functions_with_interrupt()
    assert (path.name, function.name) == ("nodes.py", "approval")
    first = function.body[0]
    assert isinstance(first, ast.Expr) and isinstance(first.value, ast.Call)
    assert isinstance(first.value.func, ast.Name) and first.value.func.id == "interrupt"
    assert not any(isinstance(node, ast.Try) for node in ast.walk(function))
    with_statements = (ast.With, ast.AsyncWith)
    assert not any(isinstance(node, with_statements) for node in ast.walk(function))


def test_no_node_swallows_what_another_raises() -> None:
    # a bare `except Exception` in a node module could swallow GraphInterrupt
    tree = ast.parse((ROOT / "graph" / "nodes.py").read_text())
    assert not any(isinstance(node, ast.Try) for node in ast.walk(tree))


def test_the_only_static_edge_leads_to_the_supervisor(compiled: CompiledStateGraph[State, None, State, State]) -> None:
    # `Command(goto=…)` and a static edge from the same node both fire
    assert compiled.builder.edges == {("__start__", "supervisor")}
    assert not compiled.builder.branches


def test_every_route_is_a_node(compiled: CompiledStateGraph[State, None, State, State]) -> None:
    # going to an unknown node only logs and ends
    assert {route.value for route in Route} <= set(compiled.builder.nodes)


def test_every_node_declares_where_it_goes_and_goes_nowhere_else() -> None:
    nodes = set(build_graph(object.__new__(Nodes), InMemorySaver()).builder.nodes) | {"__end__"}
    for name in nodes - {"__end__"}:
        (command,) = [get_type_hints(getattr(Nodes, name))["return"]]
        declared = set(get_args(get_args(command)[0]))
        assert declared and declared <= nodes, name


def test_supervisor_declares_exactly_the_closed_set_of_routes() -> None:
    command = get_type_hints(Nodes.supervisor)["return"]
    assert set(get_args(get_args(command)[0])) == {route.value for route in Route}


def test_nodes_write_only_declared_keys() -> None:
    # unknown state keys are dropped in silence
    tree = ast.parse((ROOT / "graph" / "nodes.py").read_text())
    for call in ast.walk(tree):
        if isinstance(call, ast.Call) and isinstance(call.func, ast.Name) and call.func.id == "Command":
            for keyword in call.keywords:
                if keyword.arg == "update":
                    assert isinstance(keyword.value, ast.Dict)
                    keys = {key.value for key in keyword.value.keys if isinstance(key, ast.Constant)}
                    assert keys <= set(State.__annotations__)


def test_no_node_is_retried_cached_or_run_by_a_policy(
    compiled: CompiledStateGraph[State, None, State, State],
) -> None:
    # the default retry policy repeats 403 and 429 of the Kubernetes client; a cache would answer for a live cluster
    for name, node in compiled.builder.nodes.items():
        assert not node.retry_policy, name
        assert not node.cache_policy, name


def test_a_resume_never_names_a_checkpoint() -> None:
    # a checkpoint id beside a resume turns it into a replay
    assert set(thread("inc_1")["configurable"]) == {"thread_id"}


def test_no_subgraph(compiled: CompiledStateGraph[State, None, State, State]) -> None:
    # the node around a subgraph runs again on resume
    assert list(compiled.get_subgraphs()) == []


def test_every_run_is_durable_before_the_next_step() -> None:
    tree = ast.parse((ROOT / "graph" / "runner.py").read_text())
    calls = [
        call
        for call in ast.walk(tree)
        if isinstance(call, ast.Call) and isinstance(call.func, ast.Attribute) and call.func.attr == "ainvoke"
    ]
    assert len(calls) == 1
    assert {keyword.arg: ast.literal_eval(keyword.value) for keyword in calls[0].keywords} == {"durability": "sync"}


def test_checkpoints_rebuild_only_declared_types() -> None:
    import langgraph.checkpoint.serde._msgpack as msgpack

    assert msgpack.STRICT_MSGPACK_ENABLED
