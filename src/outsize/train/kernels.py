"""The arithmetic behind each action of a training step.

One method a phase. Inputs and outputs are regions of the arena; what PyTorch allocates in between
are temporaries, which `profile.py` measures. A block's backward computes its forward again from the
boundary activation (Chen et al., 2016, "Training deep nets with sublinear memory cost"), with the
same inputs and therefore the same bits.
"""

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext

import torch
from torch import Tensor

from outsize.models.layered import LayeredModel
from outsize.ops.clip import clip_factor, tensor_norms
from outsize.ops.dtypes import TORCH_DTYPES
from outsize.ops.keep import ATTENTION, PRODUCTS, Keep, KeptResults, Places, Reuse
from outsize.ops.pieces import Optimizer
from outsize.plan import layout as names
from outsize.plan.actions import Compute, Update, Work
from outsize.plan.layout import Layout
from outsize.train.packed import unpack_layer
from outsize.train.span_updates import SpanUpdates
from outsize.train.step_data import PendingUpdate, StepInputs, StepResults
from outsize.train.views import as_bytes, as_tensor, run_tensors


class TrainKernels:
    """`Kernels` of a train step; set `inputs`, `pending` and `results` before a list runs."""

    def __init__(self, model: LayeredModel, layout: Layout, optimizer: Optimizer) -> None:
        self._model = model
        self._layout = layout
        self._updates = SpanUpdates(layout, optimizer)
        self._head = len(layout.layers) - 1
        self._lowest = layout.model.lowest_trained
        self._table = layout.model.tied
        self._trained_dtype = TORCH_DTYPES[layout.workload.weights_dtype]
        self._kept: dict[str, KeptResults] = {}
        self.inputs: StepInputs
        self.pending: PendingUpdate
        self.results = StepResults()

    @property
    def dtype(self) -> torch.dtype:
        """The compute dtype."""
        return self._model.dtype

    def run(self, action: Work, views: Mapping[str, memoryview]) -> None:
        """Do one action; see `runtime.executor.Kernels`."""
        match action:
            case Update(layer, span, "derive"):
                self._updates.derive(layer, span, views)
            case Update(layer, span, _):
                self._updates.update(layer, span, views, self.pending)
            case Compute(layer, "forward", m):
                self._forward(layer, m, views)
            case Compute(layer, "unpack", _):
                self._unpack(layer, views)
            case Compute(layer, "gradient_norm", _):
                self._gradient_norm(layer, views)
            case Compute(layer, "evaluate", m) if layer == self._head:
                self._evaluate(m, views)
            case Compute(layer, "evaluate", m):
                self._forward(layer, m, views)
            case Compute(layer, _, m):
                self._backward(layer, m, views)

    def clip(self, max_norm: float) -> tuple[Tensor, Tensor]:
        """Return global norm and clipping factor from the norms of all layers."""
        norms = [n for _, found in sorted(self.results.norms.items()) for n in found]
        return clip_factor(norms, max_norm)

    @torch.no_grad()
    def _forward(self, layer: int, m: int, views: Mapping[str, memoryview]) -> None:
        parameters = self._weights(layer, views)
        if layer == 0:
            hidden = self._model.embed(parameters, self.inputs.batches[m])
        else:
            with self._costly(Keep, layer, m, views), _without_inference_kernels():
                hidden = self._block(layer, m, parameters, self._boundary(layer, m, views))
        self._boundary(layer + 1, m, views).copy_(hidden)

    def _backward(self, layer: int, m: int, views: Mapping[str, memoryview]) -> None:
        if layer == self._head:
            self._head_backward(m, views)
        elif layer == 0:
            self._embedding_backward(m, views)
        else:
            self._block_backward(layer, m, views)

    def _block_backward(self, layer: int, m: int, views: Mapping[str, memoryview]) -> None:
        parameters = self._leaves(layer, m, views)
        is_lowest = layer == self._lowest
        hidden = self._boundary(layer, m, views).requires_grad_(not is_lowest)
        with self._costly(Reuse, layer, m, views):
            output = self._block(layer, m, parameters, hidden)
        flowing = self._flowing(m, views)
        output.backward(flowing)
        if not is_lowest:
            assert hidden.grad is not None
            flowing.copy_(hidden.grad)

    def _head_backward(self, m: int, views: Mapping[str, memoryview]) -> None:
        parameters = self._leaves(self._head, m, views)
        if self._table is not None:
            parameters[self._table] = self._weights(0, views)[self._table]
        projection, made = self._layout.model.projection, None
        if projection is not None and self._layout.model.trains_projection:
            # Its gradient is made in a region: on the heap it would be the largest temporary.
            parameters[projection] = parameters[projection].detach()
            view, shape = views[names.PROJECTION_GRADIENT], parameters[projection].shape
            made = as_tensor(view, self._model.dtype, 0, tuple(shape))
        is_lowest = self._head == self._lowest
        hidden = self._boundary(self._head, m, views).requires_grad_(not is_lowest)
        labels = self.inputs.batches[m].labels
        loss = self._model.loss(parameters, hidden, labels, self.inputs.scale, made)
        loss.backward()
        self.results.losses.append(loss.item())
        if not is_lowest:
            assert hidden.grad is not None
            self._flowing(m, views).copy_(hidden.grad)
        if self._table is not None and self._layout.model.trains_table:
            gradient = parameters[self._table].grad if made is None else made
            assert gradient is not None
            self._keep_tied_gradient(m, gradient, views)
        elif made is not None and projection is not None:
            self._gradients(self._head, views)[projection].add_(made)

    def _keep_tied_gradient(
        self, m: int, gradient: Tensor, views: Mapping[str, memoryview]
    ) -> None:
        """Add the head's gradient of the shared table, and keep it apart at the rows that the
        step's tokens use.

        [Note: tied gradient order] PyTorch adds, for each micro-batch, head and embedding gradient
        first and the sum to the micro-batches before. Here the heads of all micro-batches run
        before any embedding. Rows that no token of the step uses have no embedding gradient, so
        adding up the heads is the same; the others are kept per micro-batch, and
        `_embedding_backward` adds them up in PyTorch's order.
        """
        assert self._table is not None
        total = self._gradients(0, views)[self._table]
        if m == 0:
            as_bytes(views[names.gradient(0)]).zero_()
            total.copy_(gradient)
        else:
            total.add_(gradient)
        torch.index_select(gradient, 0, self.inputs.rows, out=self._tied_rows(m, views))

    def _embedding_backward(self, m: int, views: Mapping[str, memoryview]) -> None:
        name = self._model.token_table
        if self._table is None and m == 0:
            as_bytes(views[names.gradient(0)]).zero_()
        parameters, gradients = self._weights(0, views), self._gradients(0, views)
        rows = self.inputs.rows
        for key, parameter in parameters.items():
            parameters[key] = parameter.detach()[rows] if key == name else parameter
            parameters[key].requires_grad_()
            if key != name:
                parameters[key].grad = gradients[key]
        hidden = self._model.embed_rows(parameters, self.inputs.batches[m], rows)
        hidden.backward(self._flowing(m, views))
        found = parameters[name].grad
        assert found is not None
        if self._table is not None:  # [Note: tied gradient order]
            found = self._tied_rows(m, views).add_(found)
        if self._table is None or m > 0:
            found = gradients[name].index_select(0, rows).add_(found)
        gradients[name].index_copy_(0, rows, found)

    def _unpack(self, layer: int, views: Mapping[str, memoryview]) -> None:
        resting, run = views[names.base(layer)], views[names.unpacked(layer)]
        unpack_layer(self._layout.layers[layer], resting, run, self._model.dtype)

    @torch.no_grad()
    def _gradient_norm(self, layer: int, views: Mapping[str, memoryview]) -> None:
        gradients = self._gradients(layer, views)
        copy = torch.frombuffer(views[names.norm_copy(layer)], dtype=torch.float32)
        self.results.norms[layer] = [n for g in gradients.values() for n in tensor_norms(g, copy)]

    @torch.no_grad()
    def _evaluate(self, m: int, views: Mapping[str, memoryview]) -> None:
        parameters = self._weights(self._head, views)
        if self._table is not None:
            parameters[self._table] = self._weights(0, views)[self._table]
        hidden, labels = self._boundary(self._head, m, views), self.inputs.batches[m].labels
        self.results.losses.append(self._model.loss(parameters, hidden, labels, 1.0).item())

    def _block(self, layer: int, m: int, parameters: dict[str, Tensor], hidden: Tensor) -> Tensor:
        seed = self.inputs.dropout_seed(layer, m)
        return self._model.block(layer, parameters, hidden, self.inputs.contexts[m], seed)

    def _costly(
        self, mode: type[Keep] | type[Reuse], layer: int, m: int, views: Mapping[str, memoryview]
    ) -> AbstractContextManager[object]:
        """Keep or reuse the results of the block's costly operations that the plan has regions
        for.
        """
        weights = views.get(self._layout.frozen(layer)) or views.get(names.weights(layer))
        places: Places = {
            operation: (self._kept.setdefault(region, KeptResults()), as_bytes(views[region]))
            for region, operations in (
                (names.attention(layer, m), (ATTENTION,)),
                (names.products(layer, m), PRODUCTS),
            )
            if region in views
            for operation in operations
        }
        return mode(places, as_bytes(weights)) if places and weights else nullcontext()

    def _weights(self, layer: int, views: Mapping[str, memoryview]) -> dict[str, Tensor]:
        """Return a layer's tensors by name. Those that steps change require a gradient, in the
        forward too, although nothing is differentiated there: PyTorch chooses some kernels by that.
        """
        frozen, trained = views.get(self._layout.frozen(layer)), views.get(names.weights(layer))
        layout, found = self._layout.layers[layer], {}
        if frozen is not None:
            found = run_tensors(frozen, layout.frozen, self._model.dtype)
        if trained is not None:
            tensors = run_tensors(trained, layout.tensors, self._trained_dtype)
            found |= {name: tensor.requires_grad_() for name, tensor in tensors.items()}
        return found

    def _gradients(self, layer: int, views: Mapping[str, memoryview]) -> dict[str, Tensor]:
        view = views.get(names.gradient(layer))
        if view is None:
            return {}
        return run_tensors(view, self._layout.layers[layer].tensors, self._trained_dtype)

    def _leaves(self, layer: int, m: int, views: Mapping[str, memoryview]) -> dict[str, Tensor]:
        """Return parameters whose gradients autograd adds into the layer's gradient region."""
        parameters = self._weights(layer, views)
        gradients = self._gradients(layer, views)
        if gradients and m == 0:
            as_bytes(views[names.gradient(layer)]).zero_()
        for name, gradient in gradients.items():
            parameters[name].grad = gradient
        return parameters

    def _hidden_shape(self) -> tuple[int, ...]:
        workload = self._layout.workload
        return workload.micro_batch_rows, workload.seq_length, self._layout.model.hidden_size

    def _boundary(self, layer: int, m: int, views: Mapping[str, memoryview]) -> Tensor:
        return as_tensor(
            views[names.boundary(layer, m)], self._model.dtype, 0, self._hidden_shape()
        )

    def _flowing(self, m: int, views: Mapping[str, memoryview]) -> Tensor:
        return as_tensor(
            views[names.boundary_gradient(m)], self._model.dtype, 0, self._hidden_shape()
        )

    def _tied_rows(self, m: int, views: Mapping[str, memoryview]) -> Tensor:
        shape = (self.inputs.rows.numel(), self._layout.model.hidden_size)
        return as_tensor(views[names.tied_rows(m)], self._model.dtype, 0, shape)


@contextmanager
def _without_inference_kernels() -> Iterator[None]:
    """Keep `nn.MultiheadAttention` and its users from the fused kernel that they have for
    inference, which rounds in other places than the training one.
    """
    before = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(before)
