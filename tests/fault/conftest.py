"""What the modules of the fault matrix share: one instance per module, and every test begins with it calm."""

from collections.abc import Iterator

import pytest

from tests.venue_servers import venue_servers
from tests.watched import Watched, watching


@pytest.fixture(scope="module")
def shared() -> Iterator[Watched]:
    """One instance for all tests of a module. Silence is far off: a module that is about it has its own instance."""
    with venue_servers() as venues, watching(venues, silent_after_s=8.0, probe_timeout_s=8.0) as watched:
        yield watched


@pytest.fixture
def seen(shared: Watched) -> Watched:
    """The instance, with no fault on and everything up."""
    shared.calm()
    return shared
