"""The files of experiments/launch do what docs/training.md says: real shells, real processes, stand-ins for clouds."""

import os
import re
import shlex
import shutil
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from jax.sharding import Mesh

from demiurgic_jax.model.config import named_config
from demiurgic_jax.sharding.mesh import MESH_AXES, axis_sizes
from demiurgic_jax.sharding.processes import find_processes
from demiurgic_jax.sharding.rendezvous import Member
from demiurgic_jax.training.config import TrainConfig
from demiurgic_jax.training.step import require_divisible
from experiments.configuration import as_dataclass, load_config
from experiments.run import parse_arguments

yaml = pytest.importorskip("yaml", reason="PyYAML is not installed (it comes with orbax-checkpoint)")

ROOT = Path(__file__).parents[2]
LAUNCH = ROOT / "experiments" / "launch"
SCRIPTS = sorted(path.name for path in (*LAUNCH.glob("*.sh"), *LAUNCH.glob("*.sbatch")))
DOCUMENTS = sorted(path.name for path in LAUNCH.glob("*.yaml"))
# Devices that each file's own command runs on: it has to divide its batch over them.
DEVICES = {
    "run.sh": 8,
    "slurm.sbatch": 16,
    "gke_tpu.yaml": 16,
    "gke_gpu.yaml": 16,
    "tpu_vm.sh": 16,
    "skypilot.yaml": 16,
}


def job_set(name: str) -> dict:
    (found,) = [each for each in yaml.safe_load_all((LAUNCH / name).read_text()) if each["kind"] == "JobSet"]
    return found


def pods(name: str) -> dict:
    (job,) = job_set(name)["spec"]["replicatedJobs"]
    return job["template"]["spec"]


def command_line(name: str) -> list[str]:
    """The arguments of experiments.run that a file gives, or in its head tells to give."""
    if name.startswith("gke"):
        (container,) = pods(name)["template"]["spec"]["containers"]
        assert container["command"] == ["python", "-m", "experiments.run"]
        return container["args"]
    text = re.sub(r"\\\n[# ]*", "", (LAUNCH / name).read_text())
    (line,) = [line for line in text.splitlines() if "--config=" in line and "--workdir=" in line]
    return shlex.split(line[line.index("--config=") :])


@pytest.mark.parametrize("name", [*SCRIPTS, *DOCUMENTS])
def test_every_file_names_a_config_and_fields_that_exist_and_fit_its_machines(name):
    arguments, overrides = parse_arguments(command_line(name))
    config = load_config(arguments.config, overrides)
    assert arguments.workdir is not None
    train = as_dataclass(TrainConfig, config.train, "train")
    sizes = axis_sizes(train.mesh, DEVICES[name])
    mesh = Mesh(np.arange(DEVICES[name]).reshape(list(sizes.values())), MESH_AXES)
    require_divisible(train.batch_size, train.context, train.grad_accum_steps, mesh)
    named_config(config.init.size)


@pytest.mark.parametrize("name", SCRIPTS)
def test_scripts_are_bash(name):
    checked = subprocess.run(["bash", "-n", LAUNCH / name], capture_output=True, text=True, check=False)
    assert (checked.returncode, checked.stderr) == (0, "")
    assert name.endswith(".sbatch") or os.access(LAUNCH / name, os.X_OK)


@pytest.mark.parametrize("name", ["gke_gpu.yaml", "gke_tpu.yaml"])
def test_a_job_set_starts_again_but_not_after_a_users_mistake(name):
    spec = job_set(name)["spec"]
    assert spec["failurePolicy"]["maxRestarts"] > 10
    assert spec["failurePolicy"]["rules"] == [{"action": "FailJobSet", "onJobFailureReasons": ["PodFailurePolicy"]}]
    (rule,) = pods(name)["podFailurePolicy"]["rules"]
    (container,) = pods(name)["template"]["spec"]["containers"]
    assert rule["action"] == "FailJob"
    assert rule["onExitCodes"] == {"containerName": container["name"], "operator": "In", "values": [2]}
    assert pods(name)["template"]["spec"]["restartPolicy"] == "Never"


def test_the_processes_of_a_gpu_job_set_find_each_other():
    spec, name = pods("gke_gpu.yaml"), job_set("gke_gpu.yaml")["metadata"]["name"]
    (container,) = spec["template"]["spec"]["containers"]
    (job,) = job_set("gke_gpu.yaml")["spec"]["replicatedJobs"]
    environ = {each["name"]: each.get("value", "1") for each in container["env"]}
    index = [each for each in container["env"] if each["name"] == "JAX_PROCESS_ID"]
    assert index[0]["valueFrom"]["fieldRef"]["fieldPath"].endswith("job-completion-index']")
    first_pod = f"{name}-{job['name']}-0-0.{name}:{container['ports'][0]['containerPort']}"
    assert find_processes(environ, 1) == (Member(first_pod, spec["completions"], 1), None)
    assert spec["parallelism"] == spec["completions"]


def test_a_tpu_job_set_has_a_pod_for_each_host_of_its_slice():
    spec = pods("gke_tpu.yaml")
    x, y, z = map(int, spec["template"]["spec"]["nodeSelector"]["cloud.google.com/gke-tpu-topology"].split("x"))
    (container,) = spec["template"]["spec"]["containers"]
    chips_a_host = container["resources"]["limits"]["google.com/tpu"]
    assert spec["completions"] == spec["parallelism"] == x * y * z // chips_a_host


def stub(folder: Path, name: str, text: str) -> Path:
    """A program called `name` in `folder`, which is to be first in PATH."""
    folder.mkdir(exist_ok=True)
    path = folder / name
    path.write_text(text)
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return path


@pytest.fixture
def repository(tmp_path) -> Path:
    """A copy of the launch files in a repository of nothing else."""
    shutil.copytree(LAUNCH, tmp_path / "repository" / "experiments" / "launch")
    return tmp_path / "repository"


def ending_with(folder: Path, *statuses: int) -> Path:
    """A stand-in for Python that ends with one status after the other, and notes its arguments in `calls`."""
    (folder / "statuses").write_text("\n".join(map(str, statuses)) + "\n")
    return stub(
        folder / "bin",
        "python",
        f'#!/bin/bash\necho "$@" >> {folder}/calls\nstatus=$(head -n 1 {folder}/statuses)\n'
        f"sed -i 1d {folder}/statuses\nexit $status\n",
    )


@pytest.mark.parametrize(
    ("statuses", "ended"), [([75, 1, 137, 0], 0), ([124, 2], 2), ([130], 130), ([1, 1, 1, 1, 1], 1)]
)
def test_run_sh_starts_again_until_it_is_of_no_use(repository, tmp_path, statuses, ended):
    environ = os.environ | {"PYTHON": str(ending_with(tmp_path, *statuses)), "PAUSE": "0", "RESTARTS": "4"}
    program = repository / "experiments/launch/run.sh"
    done = subprocess.run(
        [program, "--config=x", "--workdir=a b"], env=environ, check=False, capture_output=True, timeout=60
    )
    assert done.returncode == ended
    calls = (tmp_path / "calls").read_text().splitlines()
    assert calls == ["-m experiments.run --config=x --workdir=a b"] * len(statuses)


@pytest.mark.parametrize(("sent", "status"), [(signal.SIGTERM, 75), (signal.SIGINT, 130)])
def test_run_sh_passes_a_signal_on_and_waits_until_all_is_saved(repository, tmp_path, sent, status):
    saving = stub(
        tmp_path,
        "python",
        f"#!{sys.executable}\nimport pathlib, signal, sys, time\n"
        "def save(*_):\n    time.sleep(0.5)\n"
        f"    pathlib.Path({str(tmp_path / 'saved')!r}).touch()\n    sys.exit({status})\n"
        f"signal.signal(signal.{sent.name}, save)\n"
        f"pathlib.Path({str(tmp_path / 'started')!r}).touch()\n"
        "time.sleep(60)\n",
    )
    environ = os.environ | {"PYTHON": str(saving), "PAUSE": "0"}
    process = subprocess.Popen(
        [repository / "experiments/launch/run.sh"],
        env=environ,
        # A test run in the background of a shell ignores Ctrl-C, and would pass that on.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    try:
        deadline = time.monotonic() + 60
        while not (tmp_path / "started").exists() and time.monotonic() < deadline:
            time.sleep(0.02)
        process.send_signal(sent)
        assert process.wait(timeout=60) == status
    finally:
        process.kill()
    assert (tmp_path / "saved").exists()


SRUN = """#!{python}
# Starts the tasks of a step on this machine, as srun does on the nodes.
import os, subprocess, sys
flags = [argument for argument in sys.argv[1:] if argument.startswith("--kill")]
command = sys.argv[1 + len(flags):]
tasks = [
    subprocess.Popen(
        command,
        env=os.environ | {{
            "SLURM_STEP_NODELIST": "localhost", "SLURM_STEP_NUM_NODES": "1", "SLURM_NTASKS": "2",
            "SLURM_PROCID": str(index), "SLURM_LOCALID": str(index),
        }},
    )
    for index in range(2)
]
sys.exit(max(task.wait() for task in tasks))
"""


def submitted(tmp_path: Path, *arguments: str, **environ: str) -> tuple[int, str, str]:
    """Status and stderr of the batch script, and what it asked of scontrol."""
    stub(tmp_path / "bin", "scontrol", f'#!/bin/bash\necho "$@" >> {tmp_path}/scontrol\n')
    path = f"{tmp_path / 'bin'}:{os.environ['PATH']}"
    given = {"PATH": path, "SLURM_JOB_ID": "4711", "SLURM_SUBMIT_DIR": str(ROOT), "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        ["bash", LAUNCH / "slurm.sbatch", *arguments],
        env=os.environ | given | environ,
        capture_output=True,
        text=True,
        check=False,
    )
    asked = tmp_path / "scontrol"
    return done.returncode, done.stderr, asked.read_text() if asked.exists() else ""


def test_the_batch_script_starts_processes_that_work_together(tmp_path):
    stub(tmp_path / "bin", "srun", SRUN.format(python=sys.executable))
    arguments = ("--config=quickstart_scratch", f"--workdir={tmp_path}/run", "--stages=seeds")
    status, said, asked = submitted(
        tmp_path, *arguments, "--config.seeds.max_files=3", PYTHON=sys.executable, JAX_PLATFORMS="cpu"
    )
    assert status == 0, said
    assert asked == ""
    # Two processes, of which the first speaks.
    assert said.count("[quickstart_scratch]") == 1
    assert (tmp_path / "run" / "seeds" / "manifest.json").exists()


@pytest.mark.parametrize(
    ("status", "restarts", "again"),
    [(75, "0", True), (1, "3", True), (2, "0", False), (0, "0", False), (75, "100", False)],
)
def test_the_batch_script_is_queued_again_where_that_helps(tmp_path, status, restarts, again):
    stub(tmp_path / "bin", "srun", f"#!/bin/bash\nexit {status}\n")
    ended, _, asked = submitted(tmp_path, SLURM_RESTART_COUNT=restarts)
    assert ended == status
    assert asked == ("requeue 4711\n" if again else "")


def test_the_nodes_of_skypilot_find_each_other(repository):
    """The file's own script, with what SkyPilot sets, and a stand-in that prints what it is given."""
    stub(repository / "experiments/launch", "run.sh", "#!/bin/bash\nenv\n")
    task = yaml.safe_load((LAUNCH / "skypilot.yaml").read_text())
    nodes = {"SKYPILOT_NODE_IPS": "10.0.0.7\n10.0.0.9", "SKYPILOT_NUM_NODES": str(task["num_nodes"])}
    done = subprocess.run(
        ["bash", "-c", task["run"]],
        cwd=repository,
        env=os.environ | nodes | {"SKYPILOT_NODE_RANK": "1"},
        capture_output=True,
        text=True,
        check=True,
    )
    environ = dict(line.split("=", 1) for line in done.stdout.splitlines() if line.startswith("JAX_"))
    assert find_processes(environ, 1) == (Member("10.0.0.7:8476", 2, 1), None)
    checked = subprocess.run(["bash", "-n", "-c", task["setup"]], check=False)
    assert checked.returncode == 0


GCLOUD = """#!/bin/bash
# Notes what is asked; the slice is ACTIVE once it was created, and taken away during the first run.
echo "$*" >> {folder}/gcloud
case "$*" in
  *queued-resources\\ create*) echo ACTIVE > {folder}/state ;;
  *queued-resources\\ describe*) cat {folder}/state 2>/dev/null || exit 1 ;;
  *queued-resources\\ delete*) rm {folder}/state ;;
  *run.sh*)
    [[ -e {folder}/taken ]] && exit 0
    touch {folder}/taken
    echo SUSPENDED > {folder}/state
    exit 255
    ;;
esac
"""


def test_a_slice_that_is_taken_away_is_asked_for_again(tmp_path):
    stub(tmp_path / "bin", "gcloud", GCLOUD.format(folder=tmp_path))
    stub(tmp_path / "bin", "git", "#!/bin/bash\n")
    environ = {"PROJECT": "p", "ZONE": "z", "NFS": "10.0.0.2:/share", "PAUSE": "0"}
    path = {"PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}"}
    arguments = ["v5e-64", "--config=quickstart_scratch", "--workdir=/shared/a run"]
    done = subprocess.run(
        [LAUNCH / "tpu_vm.sh", *arguments], env=os.environ | environ | path, check=False, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    calls = (tmp_path / "gcloud").read_text()
    assert calls.count("queued-resources create demiurgic --node-id=demiurgic --accelerator-type=v5litepod-64 ") == 2
    assert calls.count("run.sh --config=quickstart_scratch --workdir=/shared/a\\ run --project=p --zone=z") == 2
    assert calls.count("queued-resources delete demiurgic --force --quiet") == 2
    assert "asking again" in done.stderr
    refused = subprocess.run([LAUNCH / "tpu_vm.sh", "v9-8"], env=os.environ | environ, check=False, capture_output=True)
    assert refused.returncode == 2
    assert b"slice v9-8 is unknown" in refused.stderr
