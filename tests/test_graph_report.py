"""The report of a graph: its failed nodes in the order of the network, and all nodes in a diagram."""

from __future__ import annotations

from typing import TYPE_CHECKING

import documents
import pytest

from converter.parity import block_diagram, report, report_rows

if TYPE_CHECKING:
    from converter.parity.json_report import Document


@pytest.fixture(scope="module")
def document(tmp_path_factory: pytest.TempPathFactory) -> Document:
    return documents.of_changed_graph(tmp_path_factory.mktemp("graph"), "stage1.unit2.conv2.weight")


def test_failed_node_comes_directly_before_its_layer(document: Document) -> None:
    for check in document.checks:
        rows = [(row.target, row.compared) for row in check.layers]
        place = rows.index(("stage1.unit2.conv2", "node by node"))
        assert rows[place + 1] == ("stage1.unit2.conv2", "end to end")
        assert rows[-1] == ("output", "end to end")
        assert [compared for _, compared in rows].count("node by node") == 1


def test_diagram_has_every_node_and_only_the_culprit_fails(document: Document) -> None:
    diagram = document.diagram
    assert diagram is not None
    assert diagram.compared == "node by node"
    assert [box.target for box in diagram.boxes if box.agrees is False] == ["stage1.unit2.conv2"]
    assert diagram.culprit is not None
    assert diagram.boxes[diagram.culprit].target == "stage1.unit2.conv2"
    assert {box.kind for box in diagram.boxes} > {"Convolution", "Activation", "elemwise_add"}
    assert all(place < number for number, box in enumerate(diagram.boxes) for place in box.inputs)


def test_sum_of_a_residual_block_has_two_inputs(document: Document) -> None:
    assert document.diagram is not None
    sums = [box for box in document.diagram.boxes if box.kind == "elemwise_add"]
    assert [len(box.inputs) for box in sums] == [2, 2]


def test_samples_of_the_culprit_are_recorded(document: Document) -> None:
    diagnosis = document.diagnosis
    assert diagnosis is not None
    assert diagnosis.samples is not None
    assert 0 < len(diagnosis.samples.reference) == len(diagnosis.samples.module) <= 2000
    assert diagnosis.samples.reference != diagnosis.samples.module


def test_page_shows_the_culprit_among_its_neighbours(document: Document) -> None:
    near = report_rows.neighbours(document)
    assert len(near) == 11
    assert [each.place.target for each in near if each.is_culprit] == ["stage1.unit2.conv2"]
    page = report.render(document)
    assert "Computed from the reference's own inputs, this node differs" in page
    assert page.count("▶ conv2") == 1


def test_nodes_are_drawn_in_their_blocks(document: Document) -> None:
    assert document.diagram is not None
    blocks = [block for section in block_diagram.sections(document.diagram) for block in section.blocks]
    assert {"stage1.unit1", "stage1.unit2"} <= {block.name for block in blocks}
