import sys

import pytest
from fake_api import FakeApi

import outsize


@pytest.fixture
def api(monkeypatch: pytest.MonkeyPatch) -> FakeApi:
    fake = FakeApi()
    monkeypatch.setitem(sys.modules, "outsize.api", fake)
    monkeypatch.setattr(outsize, "api", fake, raising=False)
    return fake
