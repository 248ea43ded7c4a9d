"""The optimizer's arithmetic on one span of state: masters and moments in, weights out."""

from collections.abc import Mapping

from outsize.ops.dtypes import TORCH_DTYPES
from outsize.ops.moments import PackedMoment
from outsize.ops.pieces import Optimizer, UpdateNumbers
from outsize.plan import layout as names
from outsize.plan.layout import Layout
from outsize.train.step_data import PendingUpdate
from outsize.train.views import packed_moments, run_piece, span_state, state_piece


class SpanUpdates:
    """Updates the spans of a layout by one optimizer. Moments that are kept in 8 bits are unpacked
    for the time of an update.
    """

    def __init__(self, layout: Layout, optimizer: Optimizer) -> None:
        self._layout = layout
        self._optimizer = optimizer
        self._dtype = TORCH_DTYPES[layout.workload.weights_dtype]

    def derive(self, layer: int, span: int, views: Mapping[str, memoryview]) -> None:
        """Round the masters of a span to the weights."""
        layout = self._layout.layers[layer]
        master, _ = span_state(views[names.state(layer, span)], layout, span, 0)
        for piece in layout.pieces(span):
            weight = run_piece(views[names.weights(layer)], piece, self._dtype)
            weight.copy_(state_piece(master, (), layout, span, piece).master)

    def update(
        self, layer: int, span: int, views: Mapping[str, memoryview], pending: PendingUpdate
    ) -> None:
        """Apply the pending gradient to a span, then round it."""
        layout, view = self._layout.layers[layer], views[names.state(layer, span)]
        packed = self._packed(layer, span, view)
        num_moments = 0 if packed else self._layout.workload.num_moments
        master, moments = span_state(view, layout, span, num_moments)
        moments = tuple(moment.unpack() for moment in packed) or moments
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
                [state_piece(master, moments, layout, span, p) for p in pieces],
                gradients,
                UpdateNumbers(
                    step=pending.step,
                    learning_rate=pending.learning_rate,
                    weight_decay=self._optimizer.weight_decay if decays else 0.0,
                ),
            )
        for one, values in zip(packed, moments, strict=False):
            one.pack(values)
        self.derive(layer, span, views)

    def _packed(self, layer: int, span: int, view: memoryview) -> tuple[PackedMoment, ...]:
        """Return the moments that are kept in 8 bits; none where all are in fp32."""
        workload = self._layout.workload
        if workload.moment_bits == 32:
            return ()
        return packed_moments(view, self._layout.layers[layer], span, workload.num_moments)
