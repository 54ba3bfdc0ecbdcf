"""preprocess.identifiers.ray_engine: on a real cluster of several nodes, one of which is lost, the values are the local ones."""

import os
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from building import CODES, build, points, write_catalogue
from test_encode import BLOCK, residual_codec

from preprocess.identifiers.encode import encode_catalogue, local_engine
from preprocess.identifiers.ray_engine import ray_engine
from preprocess.identifiers.schemes.coarse_fine import ResidualCodec

ray = pytest.importorskip("ray")
cluster_utils = pytest.importorskip("ray.cluster_utils")
ROOT = Path(__file__).parents[2]
ROWS, WIDTH = 12 * BLOCK, 6


class SlowCodec(ResidualCodec):
    """Takes its time, so that a node can be lost meanwhile, and leaves word of the node in the folder DIARY."""

    def encode(self, embeddings):
        node = ray.get_runtime_context().get_node_id()
        diary = Path(os.environ["DIARY"])
        (diary / f"{time.time_ns()} {node}").touch()
        patience = time.monotonic() + 60  # on a busy machine one node could do everything before another wakes
        while len({*workers(diary)}) < 2 and time.monotonic() < patience:
            time.sleep(0.1)
        time.sleep(0.3)
        return super().encode(embeddings)


def workers(diary: Path) -> list[str]:
    """Ids of the nodes that began to encode a block, in that order."""
    return [name.split()[1] for name in sorted(os.listdir(diary))]


@pytest.fixture
def cluster(tmp_path, monkeypatch):
    """A head and another node, each a raylet process of its own, with one CPU. Workers inherit the environment."""
    monkeypatch.setenv("PYTHONPATH", f"{ROOT}:{ROOT / 'tests'}:{Path(__file__).parent}")
    monkeypatch.setenv("DIARY", str(tmp_path / "diary"))
    soon = {"health_check_initial_delay_ms": 0, "health_check_period_ms": 500}  # a lost node is noticed in 2.5 seconds
    cluster = cluster_utils.Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "_system_config": soon})
    node = cluster.add_node(num_cpus=1)
    cluster.wait_for_nodes()
    (tmp_path / "diary").mkdir()
    ray.init(address=cluster.address, log_to_driver=False)
    yield cluster, node
    ray.shutdown()
    cluster.shutdown()


def test_values_are_the_local_ones_though_a_node_is_lost(tmp_path, cluster):
    path, diary = tmp_path / "embeddings.npy", tmp_path / "diary"
    np.save(path, np.random.default_rng(3).standard_normal((ROWS, WIDTH)).astype(np.float16))
    plain = residual_codec()
    codec = SlowCodec(plain.centres, plain.clusters, plain.rqvae, plain.scale)
    nodes, node = cluster
    lost: list[str] = []
    begun = 0

    def losing(pending):
        nonlocal begun
        for result in ray_engine(codec, path, "embedding", BLOCK)(pending):
            # the node is lost as soon as it has work; its current and future work goes to the head
            if node.node_id in workers(diary) and not lost:
                lost.append(node.node_id)
                nodes.remove_node(node, allow_graceful=False)
                begun = len(workers(diary))
            yield result

    codes, error = encode_catalogue(losing, (ROWS, WIDTH), 3, BLOCK, tmp_path / "ray")
    local = local_engine(plain, np.load(path, mmap_mode="r"), BLOCK)
    expected, expected_error = encode_catalogue(local, (ROWS, WIDTH), 3, BLOCK, tmp_path / "local")
    assert lost
    assert len(workers(diary)) > begun
    assert workers(diary)[-1] != lost[0]
    np.testing.assert_array_equal(codes, expected)
    assert error == expected_error

    # The step, on what is left of the cluster.
    write_catalogue(tmp_path, points())
    build(tmp_path, scheme="hierarchical-kmeans", block_rows=16, engine="ray")
    build(tmp_path, "local-identifiers", scheme="hierarchical-kmeans", block_rows=16)
    for file in CODES:
        found, wanted = ((tmp_path / name / file).read_bytes() for name in ("identifiers", "local-identifiers"))
        assert found == wanted, file


def test_a_missing_ray_is_said(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ValueError, match=r"--engine ray: Ray is not installed; pip install 'cart-fairseq\[ray\]'"):
        ray_engine(residual_codec(), tmp_path / "embeddings.npy", "embedding", BLOCK)
