import inspect
import sys
import types

import pytest

import outsize
from outsize.errors import UsageError
from outsize.fields import fields_of
from outsize.options import ExportOptions, GenerateOptions, ProbeOptions, VerifyOptions
from outsize.runtime.events import OnEvent
from outsize.train.options import PlanOptions, TrainOptions


class _Api(types.ModuleType):
    """Stands in for `outsize.api` and keeps what it was asked."""

    def __init__(self) -> None:
        super().__init__("outsize.api")
        self.calls: list[tuple[str, object]] = []

    def train(self, options: TrainOptions, on_event: OnEvent, own_model: object = None) -> str:
        self.calls.append(("train", options))
        return "trained"

    def plan(self, options: TrainOptions, on_event: OnEvent, own_model: object = None) -> str:
        self.calls.append(("plan", options))
        return "planned"


@pytest.fixture
def api(monkeypatch: pytest.MonkeyPatch) -> _Api:
    fake = _Api()
    monkeypatch.setitem(sys.modules, "outsize.api", fake)
    monkeypatch.setattr(outsize, "api", fake, raising=False)
    return fake


@pytest.mark.parametrize(
    ("verb", "record"),
    [
        (outsize.train, TrainOptions),
        (outsize.plan, PlanOptions),
        (outsize.verify, VerifyOptions),
        (outsize.export, ExportOptions),
        (outsize.generate, GenerateOptions),
        (outsize.probe, ProbeOptions),
    ],
)
def test_the_functions_take_exactly_the_options(verb: object, record: type) -> None:
    keys = {field.key for field in fields_of(record)} - {"dry_run"}
    parameters = inspect.signature(verb).parameters  # type: ignore[arg-type]
    assert set(parameters) == keys | {"on_event"}


def test_a_subpackage_is_also_the_verb_of_its_name(api: _Api) -> None:
    assert outsize.train("m", data="d", memory="1GiB", steps=3) == "trained"
    assert outsize.plan("m", memory=2**30) == "planned"
    trained, planned = api.calls
    assert trained[0] == "train"
    assert isinstance(trained[1], TrainOptions)
    assert trained[1].memory_bytes == 2**30
    assert trained[1].given == {"model", "data", "memory_bytes", "steps"}
    assert planned == (
        "plan",
        PlanOptions(
            model="m",
            memory_bytes=2**30,
            dry_run=True,
            given=frozenset({"model", "memory_bytes", "dry_run"}),
        ),
    )
    assert outsize.train.options.TrainOptions is TrainOptions


def test_a_wrong_value_is_refused_before_anything_heavy() -> None:
    with pytest.raises(UsageError, match="memory must be a size"):
        outsize.train("m", data="d", memory="plenty")
