"""The servers that the cases of a file share, and fresh ones for the cases that restart them or lock them up."""

import pytest

from harness import Pair


@pytest.fixture(scope="module")
def shared():
    """A pair of servers for all cases of a file; each case uses keys of its own."""
    pair = Pair()
    yield pair
    pair.remove()


@pytest.fixture
def fresh():
    """A pair of servers for one case."""
    pair = Pair()
    yield pair
    pair.remove()
