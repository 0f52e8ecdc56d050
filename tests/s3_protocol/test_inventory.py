"""The table of operations in the documents is the code's."""

from __future__ import annotations

from pathlib import Path

import pytest

from gateway.s3.handlers import IMPLEMENTED
from gateway.s3.inventory import BEGIN, END, render_table, replace_table, state
from gateway.s3.model import ServiceModel
from gateway.s3.refusals import REFUSED
from gateway.s3.unset import UNSET

DOCUMENT = Path(__file__).parents[2] / "docs" / "compatibility.md"
MODEL = ServiceModel.load()


def test_the_documents_table_is_current() -> None:
    text = DOCUMENT.read_text()
    assert replace_table(text, render_table(MODEL, IMPLEMENTED)) == text, (
        "renew it: python -m gateway.s3.inventory docs/compatibility.md"
    )


def test_every_operation_has_a_row() -> None:
    table = render_table(MODEL, IMPLEMENTED)
    for name in MODEL.operations:
        assert f"\n| {name} | `" in table
    assert table.startswith(BEGIN)
    assert table.endswith(END)


def test_tables_name_what_the_model_has() -> None:
    assert set(UNSET) <= set(MODEL.operations)
    members = {member for one in MODEL.operations.values() for member in one.input.members}
    assert set(REFUSED) <= members
    assert all(MODEL.operations[name].method == "GET" for name in UNSET)


def test_states() -> None:
    assert state(MODEL.operations["GetBucketCors"], ())[0] == "unset"
    assert state(MODEL.operations["GetBucketCors"], {"GetBucketCors"})[0] == "done"
    assert state(MODEL.operations["PutBucketCors"], ())[0] == "refused"
    assert state(MODEL.operations["ListDirectoryBuckets"], ())[0] == "same"


def test_a_document_without_markers_is_refused() -> None:
    with pytest.raises(ValueError, match="operations:begin"):
        replace_table("nothing", "table")
