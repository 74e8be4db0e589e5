#!/usr/bin/env bash
# The main job on this machine, started again whenever that helps. All GPUs or TPU chips of the machine are one process.
#
#   experiments/launch/run.sh --config=quickstart_scratch --workdir=/data/runs/1b --config.init.size=1b \
#       --config.train.batch_size=64 --config.train.context=4096 --config.train.compute_dtype=bfloat16 \
#       --config.train.remat=full
#
# On several machines start it on each, with JAX_COORDINATOR_ADDRESS, JAX_NUM_PROCESSES and JAX_PROCESS_ID set and one
# --workdir on a disk that all share. They end together and meet again.
#
# PYTHON: which interpreter (default: .venv/bin/python, else python3). RESTARTS: how often at most (default: 100).
# SIGTERM is passed on: the run saves where it is, and is not started again.
set -muo pipefail # -m: without it the run would not hear of Ctrl-C
cd "$(dirname "${BASH_SOURCE[0]}")/../.." || exit 1

PYTHON=${PYTHON:-$([[ -x .venv/bin/python ]] && echo .venv/bin/python || echo python3)}
# JAX takes three quarters of a GPU's memory unless told otherwise; about 4 GB are the CUDA context's and NCCL's.
export XLA_PYTHON_CLIENT_MEM_FRACTION=${XLA_PYTHON_CLIENT_MEM_FRACTION:-0.93}

leaving=
run=
leave() {
  leaving=yes
  [[ -n $run ]] && kill -"$1" "$run" 2>/dev/null
}
trap 'leave TERM' TERM
trap 'leave INT' INT

for ((restart = 0; restart <= ${RESTARTS:-100}; restart++)); do
  "$PYTHON" -m experiments.run "$@" &
  run=$!
  wait "$run"
  status=$?
  # A trapped signal ends `wait` before the run has ended.
  while kill -0 "$run" 2>/dev/null; do
    wait "$run"
    status=$?
  done
  case $status in
    0 | 2 | 130) exit "$status" ;; # done; a mistake in the command; Ctrl-C: another start would change nothing
  esac
  [[ -n $leaving ]] && exit "$status"
  echo "run.sh: ended with status $status; starting again in ${PAUSE:-10} s" >&2
  sleep "${PAUSE:-10}"
  [[ -n $leaving ]] && break
done
exit "$status"
