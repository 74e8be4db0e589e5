"""Processes find each other, or say in one sentence why not."""

import socket
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1]))
from process_group import Process, by_hand, free_port, run_all

from demiurgic_jax.errors import UserError
from demiurgic_jax.sharding.processes import find_processes
from demiurgic_jax.sharding.rendezvous import Member, meet

PROGRAM = str(Path(__file__).with_name("starting_process.py"))


def under_srun(count: int, index: int, port: int) -> dict[str, str]:
    """What srun sets, with all tasks on this machine."""
    return {
        "SLURM_JOB_ID": "4711",
        "SLURM_STEP_NODELIST": "localhost",
        "SLURM_STEP_NUM_NODES": "1",
        "SLURM_NTASKS": str(count),
        "SLURM_PROCID": str(index),
        "SLURM_LOCALID": str(index),
        "JAX_COORDINATOR_PORT": str(port),
    }


def under_mpirun(count: int, index: int, port: int) -> dict[str, str]:
    """What Open MPI's mpirun sets."""
    return {
        "OMPI_MCA_orte_hnp_uri": "1531576320.0;tcp://127.0.0.1:34911",
        "OMPI_COMM_WORLD_SIZE": str(count),
        "OMPI_COMM_WORLD_RANK": str(index),
        "OMPI_COMM_WORLD_LOCAL_RANK": str(index),
        "JAX_COORDINATOR_PORT": str(port),
    }


@pytest.mark.parametrize("launcher", [by_hand, under_srun, under_mpirun])
def test_two_processes_compute_together(launcher):
    port = free_port()
    ended = run_all(*(Process([PROGRAM, "60"], launcher(2, index, port)) for index in range(2)))
    assert [each.status for each in ended] == [0, 0], ended
    for index, each in enumerate(ended):
        assert f"{index} of 2: 2 devices" in each.said


def test_a_process_on_its_own_asks_no_metadata_server():
    with socket.create_server(("127.0.0.1", 0)) as metadata_server:
        address = f"127.0.0.1:{metadata_server.getsockname()[1]}"
        cloud = {"GCE_METADATA_IP": address, "KUBERNETES_SERVICE_HOST": "127.0.0.1"}
        (alone,) = run_all(Process([PROGRAM, "60"], cloud))
        metadata_server.settimeout(0.1)
        with pytest.raises(TimeoutError):
            metadata_server.accept()
    assert alone.said.endswith("0 of 1: 1 devices\n")


@pytest.mark.parametrize(
    "environ",
    [
        {},
        {"JAX_NUM_PROCESSES": "1"},
        {"JAX_NUM_PROCESSES": "1", "JAX_PROCESS_ID": "0", "JAX_COORDINATOR_ADDRESS": "localhost:1234"},
        under_srun(1, 0, 1234),
        under_srun(8, 3, 1234) | {"JAX_NUM_PROCESSES": "1"},
        {"SLURM_JOB_ID": "4711", "SLURM_NTASKS": "8", "SLURM_PROCID": "0"},  # a batch script, outside of srun
        {"TPU_WORKER_HOSTNAMES": "localhost", "TPU_WORKER_ID": "0", "JOB_COMPLETION_INDEX": "0"},
    ],
)
def test_a_process_on_its_own_stays_alone(environ):
    assert find_processes(environ, 1) == (None, None)


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"JAX_PROCESS_ID": ""}, "JAX_COORDINATOR_ADDRESS and JAX_NUM_PROCESSES set, but not JAX_PROCESS_ID: set all"),
        ({"JAX_COORDINATOR_ADDRESS": ""}, "set, but not JAX_COORDINATOR_ADDRESS: set all three, or none"),
        ({"JAX_NUM_PROCESSES": "", "JAX_PROCESS_ID": ""}, "set, but not JAX_NUM_PROCESSES and JAX_PROCESS_ID"),
        (
            {"JAX_PROCESS_ID": "2"},
            "is out of range for JAX_NUM_PROCESSES=2: number the processes 0 to 1",
        ),
        ({"JAX_PROCESS_ID": "-1"}, "JAX_PROCESS_ID=-1 is out of range"),
        ({"JAX_NUM_PROCESSES": "two"}, "JAX_NUM_PROCESSES=two is no whole number"),
        ({"JAX_NUM_PROCESSES": "1", "JAX_PROCESS_ID": "1"}, "JAX_PROCESS_ID=1 is out of range for JAX_NUM_PROCESSES=1"),
        ({"JAX_COORDINATOR_ADDRESS": "10.0.0.1"}, "JAX_COORDINATOR_ADDRESS=10.0.0.1 is no HOST:PORT"),
    ],
)
def test_variables_that_do_not_fit_are_named(changed, said):
    with pytest.raises(UserError) as refusal:
        find_processes(by_hand(2, 1, 1234) | changed, 1)
    assert said in str(refusal.value)


def test_an_indexed_job_that_jax_cannot_read_is_refused_with_the_mend():
    with pytest.raises(UserError, match=r"jax\[k8s\].*set JAX_COORDINATOR_ADDRESS, JAX_NUM_PROCESSES and JAX_PROCESS"):
        find_processes({"JOB_COMPLETION_INDEX": "1"}, 1)


def test_an_unreachable_coordinator_is_one_sentence():
    port = free_port()
    started = time.monotonic()
    (ended,) = run_all(Process([PROGRAM, "1"], by_hand(2, 1, port)))
    assert ended.status == 1
    assert ended.said == (
        f"process 1 cannot reach process 0 at 127.0.0.1:{port} (Connection refused; tried for 1 s): start process 0, "
        "or correct the address or what blocks its port\n"
    )
    assert time.monotonic() - started < 30


def met(*members: Member, commands: tuple[str, ...] = ("same", "same", "same"), seconds: float = 1.5) -> list[str]:
    """What each of the processes hears when they meet; an empty string when all is well."""

    def heard(member: Member, command: str) -> str:
        try:
            meet(member, command, seconds)
        except UserError as error:
            return str(error)
        return ""

    with ThreadPoolExecutor(len(members)) as pool:
        return list(pool.map(heard, members, commands))


@pytest.fixture
def address() -> str:
    return f"127.0.0.1:{free_port()}"


def test_all_are_let_go_once_all_are_there(address):
    assert met(Member(address, 3, 2), Member(address, 3, 0), Member(address, 3, 1), seconds=20) == ["", "", ""]


def test_one_that_stays_away_is_named_to_all_others(address):
    heard = met(Member(address, 3, 0), Member(address, 3, 2))
    assert heard[0] == heard[1]
    assert heard[0].startswith(f"process 1 of 3 did not come to {address} within 1.5 s: start all")


def test_two_of_one_number_are_refused(address):
    heard = met(Member(address, 3, 0), Member(address, 3, 1), Member(address, 3, 1), seconds=20)
    assert heard == ["two processes are number 1 of 3: give each its own JAX_PROCESS_ID, from 0 to 2"] * 3


def test_another_count_is_refused(address):
    heard = met(Member(address, 2, 0), Member(address, 4, 1), seconds=20)
    assert (
        heard
        == ["process 0 was told of 2 processes and process 1 of 4: give JAX_NUM_PROCESSES the same value in all"] * 2
    )


def test_another_command_is_refused(address):
    heard = met(Member(address, 2, 0), Member(address, 2, 1), commands=("--a=1", "--a=2"), seconds=20)
    assert (
        heard == ["process 0 was started with `--a=1` and process 1 with `--a=2`: start all with the same command"] * 2
    )


def test_a_port_in_use_is_refused_at_once(address):
    port = int(address.rpartition(":")[2])
    with socket.create_server(("127.0.0.1", port)):
        (heard,) = met(Member(address, 2, 0), seconds=20)
    assert heard.startswith(f"port {port} of the coordinator is in use by another program: set JAX_COORDINATOR_ADDRESS")


def test_a_stranger_on_the_coordinators_port_is_no_process_0(address):
    with socket.create_server(("127.0.0.1", int(address.rpartition(":")[2]))) as server:

        def answer() -> None:
            connection, _ = server.accept()
            connection.sendall(b"220 mail.example.org ESMTP\r\n")
            connection.close()

        stranger = threading.Thread(target=answer)
        stranger.start()
        (heard,) = met(Member(address, 2, 1), seconds=20)
        stranger.join()
    assert heard.startswith(f"{address} does not answer as process 0 of this run")


def test_a_stranger_at_the_meeting_is_ignored(address):
    host, _, port = address.rpartition(":")

    def knock() -> None:
        for _ in range(50):
            try:
                with socket.create_connection((host, int(port))) as connection:
                    connection.sendall(b"GET / HTTP/1.1\r\n\r\n")
                return
            except OSError:
                time.sleep(0.05)

    stranger = threading.Thread(target=knock)
    stranger.start()
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(met, Member(address, 2, 0), seconds=20)
        stranger.join()
        assert met(Member(address, 2, 1), seconds=20) == [""]
        assert first.result() == [""]
