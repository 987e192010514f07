from __future__ import annotations

import pytest

from tests.cluster_api import ClusterApi, controllers


@pytest.fixture
def api(cluster_api: ClusterApi) -> ClusterApi:
    """A cluster that is ready for runs without GPUs."""
    controllers.ready(cluster_api)
    return cluster_api
