"""Lists of modules as layered models: the modules' own numbers, and the refusals."""

import pytest
import torch
from torch import nn
from torch.nn import functional

from outsize.errors import ModelError
from outsize.models.initialise import initial_values
from outsize.models.layered import Batch, LayeredModel
from outsize.models.sequential import from_layers, from_sequential

VOCAB_SIZE, WIDTH = 23, 8


def make_blocks(count: int = 2) -> list[nn.Module]:
    return [
        nn.Sequential(nn.Linear(WIDTH, WIDTH), nn.Dropout(0.5), nn.LayerNorm(WIDTH))
        for _ in range(count)
    ]


def make_model() -> nn.Sequential:
    torch.manual_seed(0)
    embedding = nn.Embedding(VOCAB_SIZE, WIDTH, padding_idx=2)
    return nn.Sequential(embedding, *make_blocks(), nn.Linear(WIDTH, VOCAB_SIZE))


def make_batch() -> Batch:
    ids = torch.tensor([[2, 5, 5, 7], [1, 2, 9, 5]])
    labels = torch.tensor([[5, 5, 7, -100], [2, 9, 5, -100]])
    return Batch(input_ids=ids, position_ids=torch.arange(4).repeat(2, 1), labels=labels)


def layer_values(layered: LayeredModel, index: int) -> dict[str, torch.Tensor]:
    values = initial_values(layered, index, 0)
    return {name: value.clone().requires_grad_() for name, value in values.items()}


def run(layered: LayeredModel, batch: Batch) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    parameters: dict[str, torch.Tensor] = {}
    for index in range(len(layered.spec.layers)):
        parameters |= layer_values(layered, index)
    context = layered.context(batch)
    hidden = layered.embed(parameters, batch)
    for index in range(1, len(layered.spec.layers) - 1):
        hidden = layered.block(index, parameters, hidden, context)
    loss = layered.loss(parameters, hidden, batch.labels, 0.25)
    loss.backward()
    return loss.detach(), {name: t.grad for name, t in parameters.items()}


def plain_loss(output: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    return functional.cross_entropy(output.flatten(0, 1), labels.flatten(), reduction="sum")


@pytest.mark.parametrize("tied", [False, True])
def test_sequential_equals_its_own_forward_and_backward(tied) -> None:
    model, batch = make_model(), make_batch()
    if tied:
        model[-1].weight = model[0].weight
    layered = from_sequential(model)
    loss, gradients = run(layered, batch)
    expected = plain_loss(model.eval()(batch.input_ids), batch.labels) * 0.25
    expected.backward()
    torch.testing.assert_close(loss, expected.detach())
    assert layered.spec.tied == ("0.weight" if tied else None)
    assert gradients.keys() == dict(model.named_parameters()).keys()
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(gradients[name], parameter.grad)


def test_own_loss_function_is_bitwise_that_of_the_modules() -> None:
    model, batch = make_model(), make_batch()
    loss, gradients = run(from_sequential(model, plain_loss), batch)
    expected = plain_loss(model.eval()(batch.input_ids), batch.labels) * 0.25
    expected.backward()
    assert torch.equal(loss, expected.detach())
    assert all(torch.equal(gradients[n], p.grad) for n, p in model.named_parameters())


def test_float_inputs_and_own_loss() -> None:
    torch.manual_seed(1)
    first, head = nn.Linear(3, WIDTH), nn.Linear(WIDTH, 1)
    layered = from_layers(
        first,
        [nn.Tanh(), nn.Linear(WIDTH, WIDTH)],
        head,
        lambda output, labels: ((output.squeeze(-1) - labels) ** 2).sum(),
        hidden_size=WIDTH,
    )
    inputs, labels = torch.randn(2, 4, 3), torch.randn(2, 4)
    batch = Batch(input_ids=inputs, position_ids=torch.zeros(2, 4).long(), labels=labels)
    loss, gradients = run(layered, batch)
    assert layered.token_table is None
    assert loss.item() > 0
    assert set(gradients) == {
        "embedding.weight",
        "embedding.bias",
        "blocks.1.weight",
        "blocks.1.bias",
        "head.weight",
        "head.bias",
    }


def test_rows_of_the_table_give_the_rows_of_the_gradient() -> None:
    layered, batch = from_sequential(make_model()), make_batch()
    whole = layer_values(layered, 0)
    rows = batch.input_ids.unique()
    part = {"0.weight": whole["0.weight"].detach()[rows].requires_grad_()}
    upstream = torch.randn(2, 4, WIDTH)
    layered.embed(whole, batch).backward(upstream)
    layered.embed_rows(part, batch, rows).backward(upstream)
    assert torch.equal(part["0.weight"].grad, whole["0.weight"].grad[rows])


def test_layered_copy_has_no_weights_and_leaves_the_modules_alone() -> None:
    model = make_model()
    layered = from_sequential(model)
    assert all(p.device.type == "meta" for m in layered._modules for p in m.parameters())
    assert model.training
    assert model[0].weight.device.type == "cpu"


def test_equal_blocks_share_a_signature() -> None:
    layers = from_sequential(make_model()).spec.layers
    assert layers[1].signature == layers[2].signature != layers[3].signature
    assert [layer.kind for layer in layers] == ["embedding", "block", "block", "head"]


def test_a_parameter_in_two_layers_is_refused() -> None:
    model = make_model()
    model[2][0].weight = model[1][0].weight
    with pytest.raises(ModelError, match=r"1\.0\.weight and 2\.0\.weight are one parameter in sev"):
        from_sequential(model)


def test_a_table_shared_with_a_block_is_refused() -> None:
    model = nn.Sequential(nn.Embedding(WIDTH, WIDTH), nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, 2))
    model[1].weight = model[0].weight
    with pytest.raises(ModelError, match="only a linear head may share its weight"):
        from_sequential(model)


def test_running_statistics_are_refused() -> None:
    with pytest.raises(ModelError, match=r"blocks\.0 keeps state between calls \(running_mean, "):
        from_layers(nn.Embedding(5, 4), [nn.BatchNorm1d(4)], nn.Linear(4, 5))


def test_embedding_that_renormalises_is_refused() -> None:
    with pytest.raises(ModelError, match="embedding has max_norm or sparse gradients, which are"):
        from_layers(nn.Embedding(5, 4, max_norm=1.0), [], nn.Linear(4, 5))


def test_missing_hidden_size_is_refused() -> None:
    with pytest.raises(ModelError, match="hidden_size is needed, because the first module is no"):
        from_layers(nn.Linear(3, 4), [], nn.Linear(4, 5))


def test_a_single_module_is_refused() -> None:
    with pytest.raises(ModelError, match=r"needs at least two modules.*; this one has 1\."):
        from_sequential(nn.Sequential(nn.Embedding(5, 4)))


def test_a_block_that_changes_the_shape_is_refused() -> None:
    layered = from_layers(nn.Embedding(VOCAB_SIZE, WIDTH), [nn.Linear(WIDTH, 3)], nn.Linear(3, 5))
    expected = r"blocks\.0 returned \(2, 4, 3\) for a hidden state of shape \(2, 4, 8\); a block mu"
    with pytest.raises(ModelError, match=expected):
        run(layered, make_batch())


def test_a_first_module_of_another_width_is_refused() -> None:
    layered = from_layers(nn.Embedding(VOCAB_SIZE, 6), [], nn.Linear(6, 5), hidden_size=WIDTH)
    expected = r"embedding returned the shape \(2, 4, 6\); its last dimension must be hidden_size=8"
    with pytest.raises(ModelError, match=expected):
        run(layered, make_batch())
