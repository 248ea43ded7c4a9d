"""A package imports only from lower lines of `LAYERS`, and there is no ring."""

import graphlib

import pytest
from sources import imports, modules

LAYERS = (
    {"quantities", "paths"},
    {"errors"},
    {"values"},
    {"fields"},
    {"options", "results", "isolate"},
    {"spec"},
    {"machines"},
    {"plan"},
    {"store"},
    {"environment"},
    {"formats"},
    {"ops"},
    {"models"},
    {"runtime"},
    {"probe"},
    {"train", "infer"},
    {"api"},
    {"report"},
    {"keywords"},
    {"functions"},
    {"demo"},
    {"cli"},
    {"__main__"},
    {""},
)
"""From the bottom up; the last is `outsize` itself. `train` and `infer` never meet."""

_RANK = {name: rank for rank, names in enumerate(LAYERS) for name in names}


def _layer(module: str) -> str:
    return [*module.split("."), ""][1]


def test_every_module_has_a_layer() -> None:
    assert {_layer(name) for name in modules()} <= _RANK.keys()


@pytest.mark.parametrize("name", modules())
def test_a_module_imports_only_from_below(name: str) -> None:
    layer = _layer(name)
    wrong = {
        target
        for target in imports(name, late=True)
        if _layer(target) != layer and target != "outsize" and _RANK[_layer(target)] >= _RANK[layer]
    }
    assert wrong == set()


def test_there_is_no_import_cycle() -> None:
    graph = {name: imports(name, late=False) - {"outsize"} for name in modules()}
    order = tuple(graphlib.TopologicalSorter(graph).static_order())
    assert set(order) == set(modules())
