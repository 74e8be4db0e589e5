"""Starts `jax.distributed` when, and only when, this process is one of several.

Who says so, in this order:

    JAX_COORDINATOR_ADDRESS, JAX_NUM_PROCESSES, JAX_PROCESS_ID    you; JAX_NUM_PROCESSES=1 means: alone, come what may
    Open MPI, SLURM (srun), GKE, TPU VM, indexed Kubernetes job   found by JAX, once the environment hints at several

A process on its own is told so by its environment: nobody is asked over the network, except on a TPU VM, where
only the metadata server knows how many hosts the slice has.
"""

import os
import signal
from collections.abc import Mapping, Sequence

import jax
from jax._src.cloud_tpu_init import running_in_cloud_tpu_vm
from jax._src.clusters import ClusterEnv

from demiurgic_jax.errors import UserError
from demiurgic_jax.sharding.rendezvous import Member, meet

ADDRESS, COUNT, INDEX = VARIABLES = ("JAX_COORDINATOR_ADDRESS", "JAX_NUM_PROCESSES", "JAX_PROCESS_ID")
START_SECONDS = 300.0


def start_processes(command: str = "", timeout_seconds: float = START_SECONDS) -> int:
    """Connects this process with the others of its run; returns its number, 0 when it is alone.

    To be called before anything asks JAX for a device. Waits at most `timeout_seconds` for the others, which must
    have been started with an equal `command`. UserError names what is missing, contradictory or out of reach.
    """
    member, local_devices = find_processes(os.environ, timeout_seconds)
    if member is None:
        return 0
    meet(member, command, timeout_seconds)
    ended_by = signal.getsignal(signal.SIGTERM)
    jax.distributed.initialize(
        member.coordinator,
        member.count,
        member.index,
        local_device_ids=local_devices,
        cluster_detection_method="deactivate",
    )
    # JAX has caught SIGTERM by now, for programs that save before they go; here a killed run goes on from its last
    # checkpoint, and one that does not end when told to only costs the launcher's patience.
    signal.signal(signal.SIGTERM, ended_by)
    return member.index


def find_processes(environ: Mapping[str, str], timeout_seconds: float) -> tuple[Member | None, Sequence[int] | None]:
    """This process among the others, None when it is alone; and which of the host's devices are its own, None for all.

    UserError for variables that are incomplete, no numbers, or contradict each other.
    """
    given = [name for name in VARIABLES if environ.get(name)]
    if COUNT in given or INDEX in given:
        return _said_by_hand(environ, given), None
    if not _hints_at_several(environ):
        if given:
            raise UserError(f"{ADDRESS} is set, but not {COUNT} and {INDEX}: set all three, or none")
        return None, None
    return _found_by_jax(environ, timeout_seconds)


def _said_by_hand(environ: Mapping[str, str], given: list[str]) -> Member | None:
    if environ.get(COUNT) == "1" and environ.get(INDEX, "0") == "0":
        return None
    if missing := [name for name in VARIABLES if name not in given]:
        raise UserError(f"{' and '.join(given)} set, but not {' and '.join(missing)}: set all three, or none")
    count, index, address = _number(environ, COUNT), _number(environ, INDEX), environ[ADDRESS]
    host, _, port = address.rpartition(":")
    if not host or not port.isdecimal() or not 0 < int(port) < 1 << 16:
        raise UserError(f"{ADDRESS}={address} is no HOST:PORT, e.g. 10.0.0.1:8476")
    if not 0 <= index < count:
        raise UserError(f"{INDEX}={index} is out of range for {COUNT}={count}: number the processes 0 to {count - 1}")
    return Member(address, count, index)


def _number(environ: Mapping[str, str], name: str) -> int:
    try:
        return int(environ[name])
    except ValueError as error:
        raise UserError(f"{name}={environ[name]} is no whole number") from error


def _hints_at_several(environ: Mapping[str, str]) -> bool:
    """What can be told without asking anyone."""
    # SLURM_STEP_NODELIST is there under srun only: the batch script itself is one process, whatever SLURM_NTASKS says.
    slurm = environ.get("SLURM_NTASKS", "1") if "SLURM_STEP_NODELIST" in environ else "1"
    sizes = (slurm, environ.get("OMPI_COMM_WORLD_SIZE", "1"), environ.get("MEGASCALE_NUM_SLICES", "1"))
    if any(size != "1" for size in sizes):
        return True
    if hosts := environ.get("TPU_PROCESS_ADDRESSES") or environ.get("TPU_WORKER_HOSTNAMES"):
        return "," in hosts
    if "JOB_COMPLETION_INDEX" in environ:
        return True
    return running_in_cloud_tpu_vm and "TPU_SKIP_MDS_QUERY" not in environ


def _found_by_jax(environ: Mapping[str, str], timeout_seconds: float) -> tuple[Member | None, Sequence[int] | None]:
    mend = f"set {ADDRESS}, {COUNT} and {INDEX} (or {COUNT}=1 for a process on its own)"
    try:
        address, count, index, local_devices = ClusterEnv.auto_detect_unset_distributed_params(
            environ.get(ADDRESS) or None, None, None, None, None, int(timeout_seconds)
        )
    except Exception as error:
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise UserError(f"this process is one of several, but cannot find the others ({reason}): {mend}") from error
    if address is None or count is None or index is None:
        raise UserError(
            "this process is one of several, but of a kind that JAX does not know by itself: on Kubernetes "
            f"pip install 'jax[k8s]', elsewhere {mend}"
        )
    if count == 1:
        return None, None
    return Member(address, count, index), _own_devices(environ, local_devices)


def _own_devices(environ: Mapping[str, str], suggested: Sequence[int] | None) -> Sequence[int] | None:
    """JAX gives each SLURM task one GPU; a task that has its node, or its GPU, to itself takes all that it sees."""
    one_a_node = environ.get("SLURM_NTASKS", "") == environ.get("SLURM_STEP_NUM_NODES")
    one_visible = environ.get("CUDA_VISIBLE_DEVICES", "").isdecimal()
    return None if one_a_node or one_visible or "JAX_LOCAL_DEVICE_IDS" in environ else suggested
