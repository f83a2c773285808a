"""Questions to a lineage, over forks; its export as GraphML."""

import io

import networkx as nx
import pytest

import kitaru
from kitaru import checkpoint, flow
from kitaru.errors import NotFoundError
from kitaru.lineage_graph import graphml


@pytest.fixture
def audit():
    @checkpoint
    def collect(count):
        return [f"package {n}" for n in range(count)]

    @checkpoint
    def classify(package):
        return {"licence": f"licence of {package}"}

    @checkpoint
    def notify():
        return "sent"

    @checkpoint
    def report(verdicts):
        return f"{len(verdicts)} verdicts: {verdicts}"

    @flow
    def audit(count):
        verdicts = [classify(package) for package in collect(count)]
        notify()
        return report(verdicts)

    return audit


@pytest.fixture
def execution(audit, client):
    return client.executions.get(audit.run(2).exec_id)


def test_what_made_a_step_or_a_value(execution):
    everything = ["collect#1", "classify#1", "classify#2"]
    assert execution.ancestors("report") == everything
    assert execution.ancestors("report.output") == [*everything, "report#1"]
    assert execution.ancestors("collect") == []
    assert execution.ancestors("notify") == []


def test_what_depends_on_a_step_or_a_value(execution):
    assert execution.descendants("classify#2") == ["report#1"]
    assert execution.descendants("collect.output") == ["classify#1", "classify#2", "report#1"]
    assert execution.descendants("report") == []


def test_what_depends_on_an_input_of_the_flow(execution):
    assert execution.ancestors("input.count") == []
    assert execution.descendants("input.count") == ["collect#1", "classify#1", "classify#2", "report#1"]
    with pytest.raises(NotFoundError, match=r"has no input\.other"):
        execution.descendants("input.other")


def test_what_the_flow_gave_in_the_end_is_not_all_made_from_its_inputs(client):
    @checkpoint
    def name():
        return "a name that is long enough"

    @checkpoint
    def greet(whom):
        return f"Good morning, {whom}"

    @flow
    def greeting(how_many_times):
        whom = name()
        greet(whom)
        return whom

    execution = client.executions.get(greeting.run(12345).exec_id)
    assert execution.descendants("input.how_many_times") == []
    assert execution.descendants("name") == ["greet#1"]


def test_who_made_a_value(execution):
    assert execution.producers({"licence": "licence of package 1"}) == ["classify#2"]
    assert execution.producers("sent") == ["notify#1"]
    assert execution.producers("never") == []
    assert execution.producers(["sent"]) == []


def test_the_way_from_one_to_the_other(execution):
    way = execution.path("collect", "report")
    assert (way[0], way[-1]) == ("collect#1", "report#1")
    assert "classify#1" in way or "classify#2" in way
    assert execution.path("report", "collect") == []
    assert execution.path("notify", "report") == []


def test_a_name_that_is_none_is_refused(execution):
    with pytest.raises(NotFoundError, match="classify#9"):
        execution.ancestors("classify#9")


def test_over_forks_an_edited_value_is_tied_to_what_it_replaced(audit, client):
    first = audit.run(2)
    edit = {"licence": "none at all"}
    fork = client.executions.get(audit.replay(first.exec_id, overrides={"checkpoint.classify#2": edit}).exec_id)
    graph = fork.lineage(after=False, origins=True)
    ((old, new, key),) = [e for e in graph.edges(keys=True) if e[2] == "edited_from"]
    assert key == "edited_from"
    assert (graph.nodes[old]["kind"], graph.nodes[new]["kind"]) == ("artifact", "artifact")
    assert f"{first.exec_id}:classify#2" in fork.ancestors("report")
    assert fork.ancestors("report")[-3:] == ["collect#1", "classify#1", "classify#2"]
    assert fork.producers({"licence": "licence of package 1"}) == [f"{first.exec_id}:classify#2"]
    put_in = client.executions.get(
        audit.replay(first.exec_id, overrides={"checkpoint.classify#2.in.package": "another"}).exec_id
    )
    ties = [
        about["role"]
        for *_, key, about in put_in.lineage(origins=True).edges(keys=True, data=True)
        if key == "edited_from"
    ]
    assert ties == ["in.package"]
    own = fork.lineage()
    assert all(node.startswith(("sha256:", fork.exec_id)) for node in own)


def test_graphml_is_read_back_with_the_same_nodes_and_edges(execution):
    graph = execution.lineage()
    back = nx.read_graphml(io.BytesIO(graphml(graph).encode()), force_multigraph=True)
    assert set(back.nodes) == set(graph.nodes)
    assert {(a, b) for a, b, _ in back.edges(keys=True)} == {(a, b) for a, b, _ in graph.edges(keys=True)}
    assert nx.get_node_attributes(back, "label") == {n: a["label"] for n, a in graph.nodes(data=True) if "label" in a}


def test_the_public_function_takes_origins(audit):
    first = audit.run(1)
    fork = audit.replay(first.exec_id, overrides={"checkpoint.collect": ["other"]})
    assert len(kitaru.lineage(fork.exec_id, origins=True)) > len(kitaru.lineage(fork.exec_id))
