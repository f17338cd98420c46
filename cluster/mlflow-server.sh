#!/usr/bin/env bash
# The MLflow server of a team: one tracking store and registry for every project, over PostgreSQL where it is named.
#
# The same script in every place: cluster/local.sh, the head of a launched cluster, the container on Kubernetes.
#
#   MLFLOW_BACKEND_URI    postgresql+psycopg2://USER:PASSWORD@HOST:5432/mlflow; without it SQLite below MLFLOW_STATE,
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

# Once, before any worker opens it: servers that migrate one database side by side break it. MLflow's command goes
# through every step, so that a database of an older MLflow is brought up to this one too.
"$python" -m mlflow db upgrade "$backend"

exec "$python" -m mlflow server \
  --host "${MLFLOW_HOST:-127.0.0.1}" --port "${MLFLOW_PORT:-5000}" --workers "${MLFLOW_WORKERS:-2}" \
  --backend-store-uri "$backend" --artifacts-destination "$artifacts" --serve-artifacts
