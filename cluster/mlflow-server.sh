#!/usr/bin/env bash
# The MLflow server of a team: one tracking store and registry for every project, over PostgreSQL where it is named.
#
# The same script in every place: cluster/local.sh, the head of a launched cluster, the container on Kubernetes.
#
#   MLFLOW_BACKEND_URI    postgresql://USER:PASSWORD@HOST:5432/mlflow; without it SQLite below MLFLOW_STATE,
#                         which is for one machine and a few writers
#   MLFLOW_ARTIFACTS      where models and plots go: s3://, gs:// or a folder; without it a folder below MLFLOW_STATE
#   MLFLOW_HOST           127.0.0.1; 0.0.0.0 where others must reach it, behind what keeps strangers out
#   MLFLOW_PORT           5000
#   MLFLOW_WORKERS        2
#   MLFLOW_STATE          ./mlflow
set -euo pipefail

python=${PYTHON:-python3}
state=${MLFLOW_STATE:-$PWD/mlflow}
mkdir -p "$state"
backend=${MLFLOW_BACKEND_URI:-sqlite:///$state/mlflow.db}
artifacts=${MLFLOW_ARTIFACTS:-$state/artifacts}
# SQLAlchemy would take another driver than the one that MLflow is made for.
backend=${backend/#postgresql:\/\//postgresql+psycopg2:\/\/}
# Nothing here uses MLflow's own jobs, whose processes would outlive the server.
export MLFLOW_SERVER_ENABLE_JOB_EXECUTION=${MLFLOW_SERVER_ENABLE_JOB_EXECUTION:-false}

# The server makes the tables of an empty database before any worker opens it. One of an older MLflow it refuses, with the
# command that brings it up to this one: make a copy first.
exec "$python" -m mlflow server \
  --host "${MLFLOW_HOST:-127.0.0.1}" --port "${MLFLOW_PORT:-5000}" --workers "${MLFLOW_WORKERS:-2}" \
  --backend-store-uri "$backend" --artifacts-destination "$artifacts" --serve-artifacts
