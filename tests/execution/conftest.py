"""One Ray cluster for the tests of this folder: starting one takes longer than any of them."""

import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def ray_cluster():
    """A cluster of one machine with four CPUs, which executors join by its address."""
    from evomerge.execution.pool import cluster as settings

    here, root = Path(__file__).parent, Path(__file__).parents[2]
    os.environ["PYTHONPATH"] = os.pathsep.join([str(here), str(root), os.environ.get("PYTHONPATH", "")])
    settings._before_ray_is_imported()
    # A cluster that a test starts for itself turns this on for all that this process does later; the one here has none.
    os.environ["RAY_AUTH_MODE"] = "disabled"
    from ray.cluster_utils import Cluster

    # What nobody here looks at takes longer to start than the rest.
    without = {"include_dashboard": False, "include_log_monitor": False, "no_monitor": True}
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 4, "object_store_memory": 100 << 20, **without})
    yield cluster
    cluster.shutdown()
