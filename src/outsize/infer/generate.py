"""A prompt and a model become an answer: the verb `generate` from options to result.

Simple and correct: one sequence, one token after the other, every layer in turn. What a pass takes
is measured before weights get what is left of the budget (`room.py`).
"""

import time
from collections.abc import Iterator, Sequence

import torch

from outsize.errors import ModelError
from outsize.formats.check import check_tensors
from outsize.infer.forward import make_batch, next_logits
from outsize.infer.model import OpenModel
from outsize.infer.prompt import TextStream, check_prompt, encode_prompt, load_tokenizer, stop_ids
from outsize.infer.room import make_room
from outsize.infer.sampling import choose_token
from outsize.infer.weights import Weights
from outsize.models.decoder import Decoder
from outsize.models.registry import build
from outsize.ops.dtypes import TORCH_DTYPES
from outsize.options import GenerateOptions
from outsize.results import GenerateResult, TierBytes
from outsize.runtime.events import OnEvent, PhaseAdvanced, TextGenerated, phase
from outsize.store.budget import peak_resident_bytes


def run_generate(
    options: GenerateOptions,
    model: OpenModel,
    budget_bytes: int,
    on_event: OnEvent,
    start_s: float,
) -> GenerateResult:
    """Answer the prompt.

    Raises:
        ModelError: the model's files do not fit together, or it gives no numbers.
        UsageError: prompt and answer are longer than the model allows.
        BudgetError: not even one layer at a time fits the budget.
    """
    if options.threads is not None:
        torch.set_num_threads(options.threads)
    tokenizer = load_tokenizer(model.folder)
    prompt, chat = encode_prompt(tokenizer, options)
    decoder = build(model.folder, TORCH_DTYPES[options.dtype])
    check_prompt(options, decoder.spec, prompt, model.folder)
    weights = _load(options, model, decoder, len(prompt), budget_bytes, on_event)
    stops, stream = stop_ids(model.folder, tokenizer), TextStream(tokenizer)
    answer_s, is_ended = time.monotonic(), False
    answer: list[int] = []
    for token in _tokens(options, decoder, weights, prompt):
        is_ended = token in stops
        if is_ended:
            break
        answer.append(token)
        on_event(TextGenerated(text=stream.advance(answer)))
    on_event(TextGenerated(text=stream.finish(answer)))
    end_s = time.monotonic()
    host_bytes = max(peak_resident_bytes(), model.preparation_bytes)
    return GenerateResult(
        model=options.model,
        prompt=options.prompt,
        text=stream.text(answer),
        chat=chat,
        num_prompt_tokens=len(prompt),
        num_new_tokens=len(answer),
        stopped_by="end" if is_ended else "max_new_tokens",
        tokens_per_s=len(answer) / max(end_s - answer_s, 1e-9),
        budget_bytes=TierBytes(host=budget_bytes, disk=0),
        measured_peak_bytes=TierBytes(host=host_bytes, disk=0),
        seconds=end_s - start_s,
    )


def _load(
    options: GenerateOptions,
    model: OpenModel,
    decoder: Decoder,
    num_prompt_tokens: int,
    budget_bytes: int,
    on_event: OnEvent,
) -> Weights:
    """Place the weights and read those that stay."""
    spec = decoder.spec
    check_tensors(model.source, spec, model.name)
    assert decoder.token_table is not None
    weights = Weights(spec, model.source, decoder.token_table, decoder.dtype)
    resident = make_room(
        decoder,
        weights,
        num_prompt_tokens=num_prompt_tokens,
        num_tokens=num_prompt_tokens + options.max_new_tokens,
        budget_bytes=budget_bytes,
        reading_bytes=model.reading_bytes,
        subject=f"Generating with {options.model}",
    )
    total = sum(weights.layer_bytes[index] for index in resident)
    done = 0
    with phase("load", on_event, total, "bytes"), torch.inference_mode():
        for index in resident:
            weights.parameters(index)
            done += weights.layer_bytes[index]
            on_event(PhaseAdvanced(phase="load", done=done))
    return weights


def _tokens(
    options: GenerateOptions, decoder: Decoder, weights: Weights, prompt: Sequence[int]
) -> Iterator[int]:
    """Yield the tokens that follow the prompt, `max_new_tokens` of them."""
    cache = decoder.new_cache()
    generator = torch.Generator().manual_seed(options.seed)
    fed, position = prompt, 0
    for _ in range(options.max_new_tokens):
        logits_V = next_logits(decoder, weights, make_batch(fed, position), cache)
        if logits_V.isnan().any():
            raise ModelError(f"{options.model} gives no numbers (NaN); its weights are damaged.")
        token = choose_token(
            logits_V,
            temperature=options.temperature,
            top_k=options.top_k,
            top_p=options.top_p,
            generator=generator,
        )
        yield token
        fed, position = [token], position + len(fed)
