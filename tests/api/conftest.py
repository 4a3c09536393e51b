"""What the API's tests share: a healthy instance and the application over it."""

import time
from collections.abc import Iterator

import pytest
from flask.testing import FlaskClient

from liqmap.clock import ManualClock
from tests.api.stage import Stage, application, stage


@pytest.fixture
def set_() -> Iterator[Stage]:
    """A healthy instance."""
    with stage() as made:
        made.write_all()
        yield made


@pytest.fixture
def clock() -> ManualClock:
    """Wall time for the reader, moved by hand."""
    return ManualClock(time.time_ns())


@pytest.fixture
def web(set_: Stage, clock: ManualClock) -> FlaskClient:
    """The application of that instance, as a browser sees it."""
    return application(set_, clock)
