"""What a version must do before it may be live: answer its own example, and take the rows that the stable one takes.

A service is one contract with its clients. A version that wants other columns, or answers a label where the stable one
answers a number, would refuse or confuse its share of them, and no error rate would tell: the requests would be at
fault. Another contract is another service.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rayline.errors import BundleError, RowError
from rayline.serving.versions.served import Served
from rayline.serving.wire import protocol


def answers_its_example(served: Served) -> None:
    """Have a version that is held here answer the example in its bundle.

    Raises:
        NotFinite: it answers with what is no number.
        RowError: it cannot read its own example.
    """
    example = [dict(row) for row in served.bundle.example]
    if example and served.lookup is None:  # what is looked up need not be there yet
        served.predict(example)


def keeps_the_contract(served: Served, stable: Served | None) -> None:
    """Check that a version can answer what the stable version is asked.

    Nothing is asked of it where there is no stable version yet, or where a version looks columns up that clients do not
    send. One row that it can read is enough: single values may be new to it.

    Raises:
        BundleError: it answers in another kind, or can read none of the stable version's example rows.
    """
    if stable is None or stable.live.number == served.live.number:
        return
    number, before = served.live.number, stable.live.number
    if served.labelled != stable.labelled:
        kinds = {True: "class labels", False: "numbers"}
        raise BundleError(
            f"version {number} answers {kinds[served.labelled]}, and stable version {before} {kinds[stable.labelled]}; "
            "serve it under another name."
        )
    if served.bundle.history is not None or stable.bundle.history is not None:
        return
    refused = [why for row in stable.bundle.example if (why := _refused(served, row))]
    if refused and len(refused) == len(stable.bundle.example):
        raise BundleError(
            f"version {number} cannot answer what stable version {before} is asked: {refused[0]}. Serve it under "
            "another name."
        )


def _refused(served: Served, row: Mapping[str, Any]) -> str:
    features = served.bundle.features
    try:
        features.row(row)
        protocol.refuse_unknown_columns([row], served.columns, features.schema.target)
    except RowError as error:
        return str(error)
    return ""
