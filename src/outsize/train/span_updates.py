"""The optimizer's arithmetic on one span of state: masters and moments in, weights out."""

from collections.abc import Mapping

from outsize.ops.dtypes import TORCH_DTYPES
from outsize.ops.pieces import Optimizer, StatePiece, UpdateNumbers
from outsize.plan import layout as names
from outsize.plan.layer_layout import LayerLayout, Piece
from outsize.plan.layout import Layout
from outsize.train.step_data import PendingUpdate
from outsize.train.views import run_piece, state_piece


class SpanUpdates:
    """Updates the spans of a layout by one optimizer."""

    def __init__(self, layout: Layout, optimizer: Optimizer) -> None:
        self._layout = layout
        self._optimizer = optimizer
        self._dtype = TORCH_DTYPES[layout.workload.weights_dtype]

    def derive(self, layer: int, span: int, views: Mapping[str, memoryview]) -> None:
        """Round the masters of a span to the weights."""
        layout, state = self._layout.layers[layer], views[names.state(layer, span)]
        for piece in layout.pieces(span):
            weight = run_piece(views[names.weights(layer)], piece, self._dtype)
            weight.copy_(self._piece(state, layout, span, piece).master)

    def update(
        self, layer: int, span: int, views: Mapping[str, memoryview], pending: PendingUpdate
    ) -> None:
        """Apply the pending gradient to a span, then round it."""
        layout, state = self._layout.layers[layer], views[names.state(layer, span)]
        for decays in (True, False):
            pieces = [p for p in layout.pieces(span) if p.placed.tensor.weight_decay is decays]
            if not pieces:
                continue
            gradients = [
                run_piece(views[names.gradient(layer)], p, self._dtype).float() for p in pieces
            ]
            if pending.factor is not None:
                # A gradient in fp32 is a view of its region; the clipped one must not replace it.
                gradients = [g * pending.factor for g in gradients]
            self._optimizer.update_(
                [self._piece(state, layout, span, p) for p in pieces],
                gradients,
                UpdateNumbers(
                    step=pending.step,
                    learning_rate=pending.learning_rate,
                    weight_decay=self._optimizer.weight_decay if decays else 0.0,
                ),
            )
        self.derive(layer, span, views)

    def _piece(self, state: memoryview, layer: LayerLayout, span: int, piece: Piece) -> StatePiece:
        return state_piece(state, layer, span, piece, self._layout.workload.num_moments)
