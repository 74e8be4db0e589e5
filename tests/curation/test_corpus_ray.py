"""The same corpus on a Ray cluster of two nodes on this machine, also when one of them dies half-way."""

import hashlib
import threading
import time
from dataclasses import replace

import pytest

pytest.importorskip("datatrove")
pytest.importorskip("ray", reason="a Ray cluster needs the extra ray")

import ray
from corpus_sources import made, write_world
from ray.cluster_utils import Cluster

from demiurgic_jax.curation.corpus.execution import Execution
from demiurgic_jax.curation.corpus.pipeline import CorpusConfig

NODE = {"num_cpus": 1, "object_store_memory": 100 << 20}
EXECUTION = Execution("ray", workers=2, options={"mem_per_cpu_gb": 0.1})


def hashes(texts):
    return {hashlib.sha256(f"{name}\0{text}".encode()).hexdigest() for name, text in texts.items()}


@pytest.fixture
def cluster():
    started = Cluster(initialize_head=True, head_node_args={"include_dashboard": False, **NODE})
    second = started.add_node(**NODE)
    started.wait_for_nodes()
    ray.init(address=started.address, log_to_driver=False)
    yield started, second
    ray.shutdown()
    started.shutdown()


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    root = tmp_path_factory.mktemp("world")
    config = CorpusConfig([write_world(root / "repositories")], parts=3, heldout=0.0)
    return config, hashes(made(config, root / "alone"))


@pytest.mark.slow
def test_two_nodes_give_the_documents_of_one_process(world, cluster, tmp_path):
    config, expected = world
    assert len(ray.nodes()) == 2
    assert hashes(made(config, tmp_path / "corpus", EXECUTION)) == expected


@pytest.mark.slow
def test_a_node_that_dies_half_way_changes_nothing(world, cluster, tmp_path):
    config, expected = world
    started, second = cluster
    marks = tmp_path / "corpus" / "logs" / "sign" / "completions"
    killed = threading.Event()

    def kill_when_under_way():
        while not (marks.is_dir() and any(marks.iterdir())):
            time.sleep(0.01)
        started.remove_node(second, allow_graceful=False)
        killed.set()

    threading.Thread(target=kill_when_under_way, daemon=True).start()
    found = made(replace(config), tmp_path / "corpus", EXECUTION)
    assert killed.wait(60)
    assert sum(node["Alive"] for node in ray.nodes()) == 1
    assert hashes(found) == expected
