"""Continuous training: every night the same `rayline submit`, and what its exit code says to Airflow.

Put this file into the dags folder of an Airflow 3 whose workers have `rayline` and the token file. The run happens on
the Ray cluster: an Airflow worker only waits. Sent again it resumes, so that a retry does no finished step twice.

    exit code   means                                     this task
    0           done, or nothing had changed              succeeds
    1           a check, gate or rollout said no          fails with the reason, and is not tried again
    2           wrong usage or configuration              fails, and is not tried again
    3           the environment failed                    is tried again, later and later
"""

from __future__ import annotations

import os
import subprocess
from datetime import UTC, datetime, timedelta

from airflow.sdk import dag, task
from airflow.sdk.exceptions import AirflowException, AirflowFailException, AirflowSkipException

CONFIG = "/opt/airflow/projects/CHANGE-ME/rayline.yaml"  # where Airflow's workers see the project
ADDRESS = "http://CHANGE-ME:8265"  # the cluster's job server
TOKEN_FILE = "/opt/airflow/secrets/CHANGE-ME"  # holds the cluster's token, mode 0600
SCHEDULE = "0 3 * * *"

SAID_NO, WRONG, FAILED = 1, 2, 3
LAST_LINES = 20


def told(command: list[str]) -> tuple[int, str]:
    """Run a command, pass its lines on to the task's log, and return its exit code and its last lines."""
    environment = {**os.environ, "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": TOKEN_FILE, "NO_COLOR": "1"}
    lines: list[str] = []
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            print(line, end="", flush=True)
            lines = [*lines, line.rstrip()][-LAST_LINES:]
    return process.returncode, "\n".join(lines)


def judged(command: list[str], code: int, said: str) -> None:
    """Tell Airflow what an exit code means. Raises whatever keeps the tasks after this one from running."""
    shown = f"`{' '.join(command)}` ended with exit code {code}:\n{said}"
    if code == 0:
        return
    if code == SAID_NO:
        raise AirflowFailException(f"a check, a gate or the rollout said no, which no second try changes. {shown}")
    if code == WRONG:
        raise AirflowFailException(f"the command or the configuration is wrong. {shown}")
    raise AirflowException(f"the environment failed; the next try resumes. {shown}")


@dag(
    dag_id="rayline_training",
    schedule=SCHEDULE,
    start_date=datetime(2026, 1, 1, tzinfo=UTC),
    catchup=False,
    max_active_runs=1,  # a second driver on one storage would be refused
    default_args={
        "retries": 3,
        "retry_delay": timedelta(minutes=5),
        "retry_exponential_backoff": True,
        "execution_timeout": timedelta(hours=12),
    },
    tags=["rayline"],
    doc_md=__doc__,
)
def rayline_training():
    """Check the new data; then train, judge, register and roll out."""

    @task
    def check_data() -> None:
        """Skip the night where the data breaks its schema: yesterday's model is better than one of broken data."""
        command = ["rayline", "validate", CONFIG]
        code, said = told(command)
        if code == SAID_NO:
            raise AirflowSkipException(f"the data breaks its schema, so that nothing is trained on it:\n{said}")
        judged(command, code, said)

    @task
    def train_and_roll_out() -> None:
        """Send the run to the cluster and wait until its rollout has ended, or waits for a person."""
        command = ["rayline", "submit", CONFIG, "--address", ADDRESS]
        judged(command, *told(command))

    check_data() >> train_and_roll_out()


rayline_training()
