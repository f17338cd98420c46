"""Runs in Airflow's own environment: reads a folder of DAGs as Airflow does, and tells what it found as JSON.

Each further argument, ``TASK=CODE``, has that task's own function run with a command that ends so, and tells which of
Airflow's exceptions came of it.
"""

from __future__ import annotations

import json
import os
import sys
from typing import Any

from airflow.dag_processing.dagbag import DagBag
from airflow.sdk.exceptions import AirflowException


def main(folder: str, *cases: str) -> None:
    """Print one JSON object as the last line."""
    bag = DagBag(dag_folder=folder)
    dags = {
        dag.dag_id: {
            "runs": dag.max_active_runs,
            "catchup": dag.catchup,
            "tasks": {
                task.task_id: {"retries": task.retries, "then": sorted(task.downstream_task_ids)} for task in dag.tasks
            },
        }
        for dag in bag.dags.values()
    }
    errors = {str(file): str(error) for file, error in bag.import_errors.items()}
    print(json.dumps({"errors": errors, "dags": dags, "cases": {case: ended(bag, case) for case in cases}}))


def ended(bag: Any, case: str) -> dict[str, str]:
    """Run one task's function and return what it raised."""
    task, _, os.environ["ENDS_WITH"] = case.partition("=")
    try:
        next(iter(bag.dags.values())).get_task(task).python_callable()
    except AirflowException as error:
        return {"raised": type(error).__name__, "said": str(error)}
    return {"raised": "", "said": ""}


if __name__ == "__main__":
    main(*sys.argv[1:])
