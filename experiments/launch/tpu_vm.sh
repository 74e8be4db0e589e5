#!/usr/bin/env bash
# A spot slice of TPU VMs from Google Cloud's queue: asks for it, waits, installs, trains, and asks again when it is
# taken away.
#
#   PROJECT=… ZONE=us-east5-a NFS=10.0.0.2:/share experiments/launch/tpu_vm.sh v5p-32 \
#       --config=quickstart_scratch --workdir=/shared/runs/7b --config.init.size=7b --config.train.batch_size=64 \
#       --config.train.context=4096 --config.train.compute_dtype=bfloat16 --config.train.remat=full
#
# NFS: a share (Filestore) that the slice can reach, mounted at /shared: --workdir has to outlive the slice.
# NAME: of the slice (default: demiurgic). RUNTIME: the VM's image (default: that of the kind of chip). Ctrl-C here
# stops watching and leaves the slice; `gcloud compute tpus queued-resources delete NAME --zone=ZONE --force` ends it.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

TYPE=${1:?"which slice? e.g. v5p-32; see the head of this file"}
shift
: "${PROJECT:?is not set: the Google Cloud project}" "${ZONE:?is not set, e.g. us-east5-a}"
: "${NFS:?is not set: SERVER:/SHARE, a disk that outlives the slice}"
NAME=${NAME:-demiurgic}
case $TYPE in
  v4-*) ACCELERATOR=$TYPE IMAGE=tpu-ubuntu2204-base ;;
  v5e-*) ACCELERATOR=v5litepod-${TYPE#v5e-} IMAGE=v2-alpha-tpuv5-lite ;;
  v5p-*) ACCELERATOR=$TYPE IMAGE=v2-alpha-tpuv5 ;;
  v6e-*) ACCELERATOR=$TYPE IMAGE=v2-alpha-tpuv6e ;;
  *) echo "tpu_vm.sh: slice $TYPE is unknown: v4-N, v5e-N, v5p-N or v6e-N" >&2 && exit 2 ;;
esac

tpus() { gcloud compute tpus "$@" --project="$PROJECT" --zone="$ZONE"; }
state() { tpus queued-resources describe "$NAME" --format='value(state.state)' 2>/dev/null || echo NONE; }
on_all() { tpus tpu-vm ssh "$NAME" --worker=all --command="$1"; }

# Python 3.12 by uv: the images' own is older than 3.11.
INSTALL="set -e
sudo mkdir -p /shared && { mountpoint -q /shared || sudo mount -t nfs -o hard $NFS /shared; }
cd demiurgic
python3 -m pip install --quiet --user uv
[ -x .venv/bin/python ] || ~/.local/bin/uv venv --quiet --python=3.12 .venv
~/.local/bin/uv pip install --quiet --python=.venv/bin/python --editable '.[serve,gguf,corpus,tpu]'"

while true; do
  if [[ $(state) == NONE ]]; then
    tpus queued-resources create "$NAME" --node-id="$NAME" --accelerator-type="$ACCELERATOR" \
      --runtime-version="${RUNTIME:-$IMAGE}" --spot
  fi
  until [[ $(state) =~ ^(ACTIVE|FAILED|SUSPENDED)$ ]]; do
    sleep "${PAUSE:-30}"
  done
  if [[ $(state) == ACTIVE ]]; then
    git archive --format=tar.gz --output=/tmp/demiurgic.tar.gz HEAD
    tpus tpu-vm scp /tmp/demiurgic.tar.gz "$NAME:" --worker=all
    on_all "mkdir -p demiurgic && tar -xzf demiurgic.tar.gz -C demiurgic"
    on_all "$INSTALL"
    status=0
    on_all "demiurgic/experiments/launch/run.sh$(printf ' %q' "$@")" || status=$?
    if ((status == 0)); then
      tpus queued-resources delete "$NAME" --force --quiet
      exit 0
    fi
    sleep "${PAUSE:-30}" # it takes a moment until a slice that was taken away is called so
    if [[ $(state) == ACTIVE ]]; then
      echo "tpu_vm.sh: ended with status $status; the slice $NAME is still there, and still costs" >&2
      exit "$status"
    fi
  fi
  echo "tpu_vm.sh: the slice $NAME was taken away or not given; asking again" >&2
  tpus queued-resources delete "$NAME" --force --quiet
done
