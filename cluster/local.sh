#!/usr/bin/env bash
# A private cluster of one node on this machine: head, job server, tokens, metrics, and an MLflow server if asked.
#
#   cluster/local.sh start [--with-mlflow]   start what does not run yet, and print what to export
#   cluster/local.sh env                     print what to export:  eval "$(cluster/local.sh env)"
#   cluster/local.sh status                  what runs, on which ports; exit code 1 where something does not
#   cluster/local.sh stop                    stop what was started here, by process id: no other Ray is touched
#
# Everything listens on loopback. Each setting below is an environment variable with a default.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
state=${RAYLINE_CLUSTER_STATE:-$PWD/.rayline/local-cluster} # logs, process ids, the token
port=${RAYLINE_GCS_PORT:-6399}                              # the cluster's own address
dashboard_port=${RAYLINE_DASHBOARD_PORT:-8265}              # job server and dashboard
metrics_port=${RAYLINE_METRICS_PORT:-8080}                  # what Prometheus scrapes
client_port=${RAYLINE_CLIENT_PORT:-10001}                   # Ray Client
agent_port=${RAYLINE_AGENT_PORT:-52365}                     # the node's dashboard agent
serve_port=${RAYLINE_SERVE_PORT:-8000}                      # HTTP of services; service.port in your config
mlflow_port=${RAYLINE_MLFLOW_PORT:-5000}                    # MLflow, with --with-mlflow
cpus=${RAYLINE_CPUS:-$(getconf _NPROCESSORS_ONLN)}          # that the node offers
labels=${RAYLINE_LABELS:-}                                  # of the node, such as role=train,zone=a
gcs_storage=${RAYLINE_GCS_STORAGE:-memory}                  # or rocksdb: the cluster's state survives its head
wait_s=${RAYLINE_START_SECONDS:-90}                         # for the head, and for MLflow, to answer
stop_s=${RAYLINE_STOP_SECONDS:-20}                          # that they have to end by themselves

if [ -n "${PYTHON:-}" ]; then python=$PYTHON
elif [ -x "$here/../.venv/bin/python" ]; then python=$here/../.venv/bin/python
else python=python3; fi

token_file=$state/auth_token
# Ray keeps Unix sockets here, whose path may have 107 characters at most: a deep folder would not do.
temp_dir=${RAYLINE_TEMP_DIR:-/tmp/rl-$(printf %s "$state" | cksum | cut -d' ' -f1)}

fail() { printf 'local.sh: %s\n' "$1" >&2; exit "${2:-3}"; }

# A process id may have been given to another program since: its command line must still say what was started.
running() { # NAME PATTERN
  local pid
  pid=$(cat "$state/$1.pid" 2>/dev/null) || return 1
  ps -ww -o args= -p "$pid" 2>/dev/null | grep -q -- "$2"
}
head_runs() { running head 'start --head'; }
mlflow_runs() { running mlflow 'mlflow'; }

listens() { (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; }

make_token() {
  mkdir -p "$state"
  chmod 700 "$state"
  [ -s "$token_file" ] || (umask 077 && "$python" -c 'import secrets; print(secrets.token_hex(32), end="")' >"$token_file")
  chmod 600 "$token_file"
}

lines_to_export() {
  printf 'export RAY_AUTH_MODE=token RAY_AUTH_TOKEN_PATH=%q\n' "$token_file"
  # Drivers join by the first; `ray job submit` takes the second.
  printf "export RAY_ADDRESS=127.0.0.1:%s RAY_API_SERVER_ADDRESS=http://127.0.0.1:%s\n" "$port" "$dashboard_port"
  # Projects name the server themselves: registry.tracking_uri.
  ! mlflow_runs || printf 'export MLFLOW_TRACKING_URI=http://127.0.0.1:%s\n' "$mlflow_port"
}

give_up() { # NAME MESSAGE: what was begun is stopped
  stop_one "$1" >&2
  fail "$2"
}

await() { # NAME PORT [WORDS IN ITS LOG]
  local until=$((SECONDS + wait_s))
  until listens "$2" && grep -q -- "${3:-}" "$state/$1.log"; do
    "$1_runs" || give_up "$1" "$1 ended while it started; its log is $state/$1.log"
    [ "$SECONDS" -lt "$until" ] || give_up "$1" "$1 does not listen on port $2 after $wait_s s; its log is $state/$1.log"
    sleep 0.2
  done
}

check_free() { # PORT VARIABLE
  ! listens "$1" || fail "port $1 is taken by another program; set $2 to another"
}

start_head() {
  local each
  for each in "$port RAYLINE_GCS_PORT" "$dashboard_port RAYLINE_DASHBOARD_PORT" "$metrics_port RAYLINE_METRICS_PORT" \
    "$client_port RAYLINE_CLIENT_PORT" "$agent_port RAYLINE_AGENT_PORT"; do
    # shellcheck disable=SC2086  # two words on purpose
    check_free $each
  done
  export RAY_AUTH_MODE=token RAY_AUTH_TOKEN_PATH=$token_file
  export RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S=0 # a single node has nowhere to drain to
  export RAY_worker_niceness=5 # Ray's own 15 leaves a training of low priority no room to come behind services
  export RAY_PROMETHEUS_NAME=${RAY_PROMETHEUS_NAME:-Prometheus}
  # Jobs that name plain `python` get this one.
  PATH=$(dirname "$(command -v "$python")"):$PATH
  export PATH
  if [ "$gcs_storage" = rocksdb ]; then
    mkdir -p "$state/gcs"
    export RAY_gcs_storage=rocksdb RAY_gcs_storage_path=$state/gcs
    export RAY_gcs_rpc_server_reconnect_timeout_s=300 # a worker node gives up a head after a minute otherwise
  fi
  # What the ingress of services needs must stand in the environment before Ray starts.
  eval "$("$python" -c 'import shlex, sys
from rayline.serving.http.ingress import ingress_environment
for name, value in ingress_environment("127.0.0.1", int(sys.argv[1]), sys.argv[2]).items():
    print(f"export {name}={shlex.quote(value)}")' "$serve_port" "$state")"
  local command=("$python" -m ray.scripts.scripts start --head --block --disable-usage-stats
    --node-ip-address 127.0.0.1 --port "$port" --temp-dir "$temp_dir" --num-cpus "$cpus"
    --include-dashboard true --dashboard-host 127.0.0.1 --dashboard-port "$dashboard_port"
    --dashboard-agent-listen-port "$agent_port" --metrics-export-port "$metrics_port"
    --ray-client-server-port "$client_port")
  [ -z "$labels" ] || command+=(--labels "$labels")
  setsid "${command[@]}" </dev/null >"$state/head.log" 2>&1 &
  echo $! >"$state/head.pid"
  # Its ports open before its node is there.
  await head "$dashboard_port" "Ray runtime started"
}

start_mlflow() {
  check_free "$mlflow_port" RAYLINE_MLFLOW_PORT
  PYTHON=$python MLFLOW_HOST=127.0.0.1 MLFLOW_PORT=$mlflow_port MLFLOW_STATE=$state/mlflow \
    setsid bash "$here/mlflow-server.sh" </dev/null >>"$state/mlflow.log" 2>&1 &
  echo $! >"$state/mlflow.pid"
  await mlflow "$mlflow_port"
}

descendants() { # PID: the living processes below it, and those of its session whose parent has gone
  ps -e -o pid=,ppid=,sess= | awk -v root="$1" '
    { parent[$1] = $2; session[$1] = $3 }
    END { for (pid in parent) { at = pid
            while (at in parent && at != root && at > 1) at = parent[at]
            if (pid != root && (at == root || session[pid] == root)) print pid } }'
}

stop_one() { # NAME
  local pid below each until=$((SECONDS + stop_s))
  pid=$(cat "$state/$1.pid" 2>/dev/null) || return 0
  # Ray does not end what its workers started themselves: remember who was below, with its start time.
  below=$(for each in $(descendants "$pid"); do ps -o pid=,lstart= -p "$each" || true; done)
  ! "$1_runs" || kill -TERM "$pid"
  while "$1_runs" && [ "$SECONDS" -lt "$until" ]; do sleep 0.1; done
  ! "$1_runs" || kill -KILL "$pid" 2>/dev/null || true
  while read -r each; do
    [ -n "$each" ] || continue
    # shellcheck disable=SC2086
    [ "$(ps -o pid=,lstart= -p ${each%% *} | xargs)" != "$(xargs <<<"$each")" ] || kill -KILL "${each%% *}" 2>/dev/null || true
  done <<<"$below"
  rm -f "$state/$1.pid"
  echo "stopped $1 ($pid)"
}

status() {
  local code=0
  if head_runs; then
    echo "head     running, process $(cat "$state/head.pid"): dashboard and jobs http://127.0.0.1:$dashboard_port, metrics http://127.0.0.1:$metrics_port/metrics"
    echo "targets  $temp_dir/prom_metrics_service_discovery.json (for Prometheus)"
  else
    echo "head     not running"
    code=1
  fi
  if mlflow_runs; then
    echo "mlflow   running, process $(cat "$state/mlflow.pid"): http://127.0.0.1:$mlflow_port"
  elif [ -e "$state/mlflow.pid" ]; then
    echo "mlflow   ended; its log is $state/mlflow.log"
    code=1
  fi
  return $code
}

case "${1:-}" in
start)
  case "${2:-}" in '' | --with-mlflow) ;; *) fail "unknown option '$2'; there is --with-mlflow" 2 ;; esac
  make_token
  head_runs || start_head
  if [ "${2:-}" = --with-mlflow ]; then mlflow_runs || start_mlflow; fi
  lines_to_export
  ;;
env) head_runs || fail "the head does not run; start it with: $0 start" 1; lines_to_export ;;
status) status ;;
stop) stop_one head; stop_one mlflow ;;
*) fail "say start [--with-mlflow], env, status or stop" 2 ;;
esac
