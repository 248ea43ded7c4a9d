"""Tiny runs in this process: the real planner, executor, kernels and trainer, without a budget.

A test says how large the arena and the spans are; everything else is what `outsize train` does. The
disk is `LateStore`, which does every transfer as late as it may, so that a wait that is missing
changes the result.
"""

from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from outsize.models.architectures import ARCHITECTURES
from outsize.models.initialise import initial_values
from outsize.models.layered import LayeredModel
from outsize.models.registry import build
from outsize.ops.dtypes import TORCH_DTYPES
from outsize.plan.layout import STATE_COMPONENTS, Layout, state
from outsize.plan.residency import DoesNotFitError
from outsize.plan.search import plan_train_step
from outsize.runtime.events import OnEvent, ignore
from outsize.runtime.slots import Slots, extent_name
from outsize.spec.machine import Lanes, LayerCost
from outsize.store.arena import HostArena
from outsize.store.journal import Journal, create_journal
from outsize.store.null import NullStore
from outsize.store.store import Extent, Store, StoreCounters, TransferResult
from outsize.train.data.rows import PackedRows
from outsize.train.evaluate import Evaluator
from outsize.train.import_weights import import_state
from outsize.train.kernels import TrainKernels
from outsize.train.measurable import largest_action_bytes
from outsize.train.optimizer import make_optimizer
from outsize.train.options import TrainOptions
from outsize.train.profiled import Profile
from outsize.train.session import Session
from outsize.train.state_file import all_extents, durable_regions, plan_lists
from outsize.train.step_data import TrainLog
from outsize.train.trainer import Trainer, commit_state
from outsize.train.verify.plain import PlainTrainer
from outsize.train.verify.plain_run import train_step
from outsize.train.verify.token_rows import write_token_rows
from outsize.train.views import span_state, state_piece
from outsize.train.workload import make_workload

VOCAB_SIZE = 61
SEQ_LENGTH = 24
EVERYTHING_BYTES = 2**30

LLAMA = {
    "vocab_size": VOCAB_SIZE,
    "hidden_size": 24,
    "intermediate_size": 36,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "max_position_embeddings": 64,
    "pad_token_id": 3,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
GPT_2 = {"n_embd": 24, "n_layer": 3, "n_head": 3, "n_positions": 64, "vocab_size": VOCAB_SIZE}
MOSTLY_TABLE = {**LLAMA, "vocab_size": 4096, "num_hidden_layers": 1, "tie_word_embeddings": True}
MODELS: dict[str, tuple[str, dict[str, object]]] = {
    "Llama": ("LlamaForCausalLM", LLAMA),
    "Llama tied": ("LlamaForCausalLM", {**LLAMA, "tie_word_embeddings": True}),
    "Qwen3": ("Qwen3ForCausalLM", LLAMA),
    "Gemma 3": (
        "Gemma3ForCausalLM",
        {**LLAMA, "sliding_window": 5, "final_logit_softcapping": 3.0},
    ),
    "GPT-2": ("GPT2LMHeadModel", GPT_2),
    "Phi-3": ("Phi3ForCausalLM", {**LLAMA, "head_dim": 6}),
    "Llama that is mostly table": ("LlamaForCausalLM", MOSTLY_TABLE),
}

State = dict[str, dict[str, Tensor]]
"""Masters and moments: parameter, then component."""


def model_config(name: str):
    """Return the configuration of one of `MODELS`."""
    architecture, options = MODELS[name]
    found = next(a for a in ARCHITECTURES if a.name == architecture)
    return found.model_class().config_class(**options)


def make_options(**changes: object) -> TrainOptions:
    """Return options of four rows a step, in two micro-batches, with everything switched on."""
    settings: dict[str, object] = {
        "model": "tiny",
        "data": "token rows",
        "tokens_per_step": 4 * SEQ_LENGTH,
        "max_seq_length": SEQ_LENGTH,
        "micro_batch_size": 2,
        "dtype": "float32",
        "learning_rate": 0.01,
        "weight_decay": 0.1,
        "max_grad_norm": 0.5,
        "seed": 3,
    }
    return TrainOptions(**(settings | changes))


def make_rows(folder: Path, num_rows: int = 17, seed: int = 1) -> PackedRows:
    """Return packed rows with boundaries and places without loss."""
    write_token_rows(
        folder, num_rows=num_rows, seq_length=SEQ_LENGTH, vocab_size=VOCAB_SIZE, seed=seed
    )
    return PackedRows(folder)


def least_arena_bytes(layout: Layout) -> int:
    """Return a size at which nearly everything has to move."""
    size = largest_action_bytes(layout)
    while True:
        try:
            _plan(layout, size)
        except DoesNotFitError:
            size += 4096
        else:
            return size


def make_session(
    model: LayeredModel,
    options: TrainOptions,
    *,
    arena: str = "least",
    span_elements: int = 512,
    keeps_products: bool = True,
) -> Session:
    """Plan a step with the `least`, `medium` or `whole` arena."""
    layout = Layout(
        model=model.spec,
        workload=make_workload(options, model.spec)[0],
        span_elements=span_elements,
    )
    layout = replace(layout, keeping_blocks=layout.num_blocks if keeps_products else 0)
    optimizer = make_optimizer(options)
    size = EVERYTHING_BYTES
    if arena != "whole":
        size = least_arena_bytes(layout)
        size = size if arena == "least" else (size + sum(layout.region_bytes.values())) // 2
    profile = Profile(
        costs=_costs(layout),
        keeps_products=True,
        memory_bytes_per_s=1e9,
        fixed_bytes=0,
        baseline_bytes=0,
    )
    return Session(
        model=model,
        layout=layout,
        kernels=TrainKernels(model, layout, optimizer),
        profile=profile,
        machine=_MACHINE,
        planned=_plan(layout, size // 4096 * 4096),
        budget_bytes=0,
        predicted_host_bytes=0,
    )


_MACHINE = Lanes(
    read_bytes_per_s=1e9,
    write_bytes_per_s=1e9,
    read_beside_write_bytes_per_s=1e9,
    write_beside_read_bytes_per_s=1e9,
    update_bytes_per_s=1e9,
)


def _plan(layout: Layout, arena_bytes: int):
    return plan_train_step(layout, arena_bytes, _MACHINE, _costs(layout))


def _costs(layout: Layout) -> dict[tuple[str, bool], LayerCost]:
    return {
        (layer.signature, keeps): LayerCost(forward_s=1e-5, backward_s=2e-5)
        for layer in layout.model.layers
        for keeps in (False, True)
    }


@dataclass
class TinyRun:
    """A run in a folder; several of them, one after the other, can go on with the same store.

    Attributes:
        session: model and plan.
        options: of the run.
        rows: training data.
        num_steps: steps of the whole run.
        folder: holds the journal.
        store: the disk.
        evaluation_rows: None when nothing is evaluated.
        on_event: is told what happens.
    """

    session: Session
    options: TrainOptions
    rows: PackedRows
    num_steps: int
    folder: Path
    store: Store
    evaluation_rows: PackedRows | None = None
    on_event: OnEvent = ignore

    def train(self, stop_after: int | None = None) -> TrainLog:
        """Train from the last commit, or from the beginning, for `stop_after` steps or to the
        end.
        """
        arena = HostArena(self.session.planned.plan.arena_bytes)
        journal, slots, done = self._open(arena)
        evaluator = None
        if self.evaluation_rows is not None:
            evaluator = Evaluator(self.session, self.evaluation_rows)
        trainer = Trainer(
            session=self.session,
            options=self.options,
            rows=self.rows,
            num_steps=self.num_steps,
            done_steps=done,
            arena=arena,
            store=self.store,
            slots=slots,
            journal=journal,
            on_event=self.on_event,
            on_step=lambda record: None,
            evaluate=evaluator and (lambda: evaluator.run(arena, self.store, slots)),
            should_stop=_after(stop_after),
        )
        log = trainer.run()
        arena.close()
        return log

    def state(self) -> State:
        """Return what is committed."""
        record = Journal(self.folder / "journal.bin").latest()
        assert record is not None
        return read_state(self.store, self.session.layout, _slots(record, self.session.layout))

    def _open(self, arena: HostArena) -> tuple[Journal, Slots, int]:
        path, layout = self.folder / "journal.bin", self.session.layout
        if path.exists():
            journal = Journal(path)
            record = journal.latest()
            assert record is not None
            return journal, _slots(record, layout), int(str(record["step"]))
        create_journal(path, capacity_bytes=24 * len(durable_regions(layout)) + 4096)
        journal, slots = Journal(path), Slots()
        import_state(
            layout=layout,
            model=self.session.model,
            source=None,
            seed=self.options.seed,
            arena=arena,
            store=self.store,
            slots=slots,
            on_progress=lambda done: None,
        )
        commit_state(self.store, slots, journal, 0)
        return journal, slots, 0


def _slots(record, layout: Layout) -> Slots:
    return Slots.from_record(record, durable_regions(layout))


def _after(stop_after: int | None) -> Callable[[], bool]:
    asked = 0

    def should_stop() -> bool:
        nonlocal asked
        asked += 1
        return asked == stop_after

    return should_stop


def make_store(*sessions: Session, evaluation: bool = False) -> "LateStore":
    """Return a store with room for what any of the sessions moves."""
    lists = [actions for s in sessions for actions in plan_lists(s.planned.plan)]
    if evaluation:
        lists += [tuple(Evaluator(s, _NO_ROWS).actions) for s in sessions]
    return LateStore(all_extents(sessions[0].layout, lists))


_NO_ROWS: PackedRows = None  # type: ignore[assignment]  # the list does not depend on them


def read_state(store: Store, layout: Layout, slots: Slots) -> State:
    """Return all masters and moments; every region is checked against its checksum."""
    parts: dict[str, dict[str, list[Tensor]]] = {}
    for index, layer in enumerate(layout.layers):
        for span in range(layer.num_spans):
            region = state(index, span)
            version = slots.newest(region)
            view = memoryview(bytearray(layout.region_bytes[region]))
            store.start_read(extent_name(region, version.slot), view, version.checksum).wait()
            master, moments = span_state(view, layer, span, layout.workload.num_moments)
            for piece in layer.pieces(span):
                found = state_piece(master, moments, layer, span, piece)
                values = (found.master, *found.moments)
                for component, value in zip(STATE_COMPONENTS, values, strict=False):
                    of_tensor = parts.setdefault(piece.placed.tensor.name, {})
                    of_tensor.setdefault(component, []).append(value)
    return {n: {c: torch.cat(p) for c, p in found.items()} for n, found in parts.items()}


def train_plain(
    name: str, options: TrainOptions, rows: PackedRows, num_steps: int
) -> tuple[list[float], State]:
    """Train one of `MODELS` in plain PyTorch; return losses and state."""
    config = model_config(name)
    model = build(config, TORCH_DTYPES[options.dtype])
    layers = range(len(model.spec.layers))
    weights = [w for i in layers for w in initial_values(model, i, options.seed).items()]
    trainer = PlainTrainer(config, options, num_steps, weights)
    workload = make_workload(options, model.spec)[0]
    losses = [train_step(trainer, rows, workload, options, step) for step in range(num_steps)]
    parts: dict[str, dict[str, list[Tensor]]] = {}
    for span in trainer.spans():
        for component, values in span.values.items():
            parts.setdefault(span.name, {}).setdefault(component, []).append(values)
    return losses, {n: {c: torch.cat(p) for c, p in found.items()} for n, found in parts.items()}


def assert_equal_states(found: State, expected: State) -> None:
    """Compare bit for bit, and see that there is something to compare."""
    assert {n: c.keys() for n, c in found.items()} == {n: c.keys() for n, c in expected.items()}
    different = {
        (name, component): (values - found[name][component]).abs().max().item()
        for name, components in expected.items()
        for component, values in components.items()
        if not torch.equal(values, found[name][component])
    }
    assert different == {}
    trained = [c.get("exp_avg", c["master"]) for c in found.values()]
    assert any(bool(values.any()) for values in trained)


class _LateTransfer:
    """A transfer that happens when it is waited for."""

    def __init__(self, work: Callable[[], TransferResult]) -> None:
        self._work = work
        self._result: TransferResult | None = None

    @property
    def done(self) -> bool:
        return self._result is not None

    def wait(self) -> TransferResult:
        if self._result is None:
            self._result = self._work()
        return self._result


class LateStore:
    """A `Store` in memory that moves bytes only when a transfer is waited for, or at `sync`.

    Until a read has ended its buffer holds noise, and a write takes what the buffer holds at the
    end: whoever reads too early or changes too early gets another result.
    """

    def __init__(self, extents: Iterable[Extent]) -> None:
        self._inner = NullStore(extents, remember=True)
        self._writes: deque[_LateTransfer] = deque()

    def start_read(
        self, extent: str, buffer: memoryview, checksum: int | None = None
    ) -> _LateTransfer:
        buffer[:] = b"\xff" * buffer.nbytes  # not a number in every dtype
        return _LateTransfer(lambda: self._inner.start_read(extent, buffer, checksum).wait())

    def start_write(
        self, extent: str, buffer: memoryview, want_checksum: bool = False
    ) -> _LateTransfer:
        transfer = _LateTransfer(
            lambda: self._inner.start_write(extent, buffer, want_checksum).wait()
        )
        self._writes.append(transfer)
        return transfer

    def sync(self) -> None:
        while self._writes:
            self._writes.popleft().wait()

    def counters(self) -> StoreCounters:
        return self._inner.counters()

    def close(self) -> None:
        self._inner.close()
