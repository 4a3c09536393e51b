"""What the API's tests share: a healthy instance and the application over it."""

import time
from collections.abc import Iterator

import pytest
from flask.testing import FlaskClient

from liqmap.api.app import create_app
from liqmap.clock import ManualClock
from tests.api.stage import Stage, stage


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
    for symbol in set_.config.enabled_symbols:
        set_.write_frame(symbol, clock.now_ns())
    set_.write_feeds(clock.now_ns())
    app = create_app(set_.config, set_.client(clock=clock))
    app.testing = False
    return app.test_client()
