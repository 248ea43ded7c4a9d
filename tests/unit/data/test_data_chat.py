"""Which tokens of a conversation carry loss, against checks that know the templates by heart."""

import pytest
from tiny_tokenizers import CHATML, byte_tokenizer

from outsize.errors import DataError
from outsize.train.data.encode import IGNORED, Encoder
from outsize.train.data.shapes import Chat, Completion, Instruction, Text

MARKED = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' }}"
    "{% if message['role'] == 'assistant' %}{% generation %}{{ message['content'] }}"
    "{{ '<|im_end|>' }}{% endgeneration %}{{ '\n' }}"
    "{% else %}{{ message['content'] + '<|im_end|>\n' }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
INST = (  # in the manner of Llama 2: no prompt for the answer, roles must alternate
    "{% for m in messages %}{% if (m['role'] == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('roles must alternate') }}{% endif %}"
    "{% if m['role'] == 'user' %}{{ '[INST] ' + m['content'] + ' [/INST]' }}"
    "{% else %}{{ ' ' + m['content'] + '<eos>' }}{% endif %}{% endfor %}"
)
THINKING = (  # in the manner of Qwen 3: only the newest answer shows its thoughts
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' }}"
    "{% if m['role'] == 'assistant' and loop.last %}{{ '<think>\n\n</think>\n\n' }}{% endif %}"
    "{{ m['content'] + '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
TOTALS = (  # says at the top how long the conversation is: no prefix of anything
    "{{ messages | length }}{% for m in messages %}{{ m['content'] }}{% endfor %}"
)
TURNS = [
    {"role": "user", "content": "Hi there"},
    {"role": "assistant", "content": "Yo, ä!"},
    {"role": "user", "content": "And now?"},
    {"role": "assistant", "content": "Bye."},
]


def chat(turns=TURNS, first_answer: int = 0) -> Chat:
    return Chat(messages=tuple(turns), first_answer=first_answer)


def encode(tokenizer, example, train_on: str = "auto"):
    (chunk,) = Encoder(tokenizer, train_on).encode([("here", example)])
    return chunk


def learnt(tokenizer, example, train_on: str = "auto") -> list[str]:
    """Return the runs of tokens that are labels, as text; every label must be the next token."""
    chunk = encode(tokenizer, example, train_on)
    labels = [IGNORED, *chunk.labels.tolist()]
    runs, run = [], []
    for token, label in zip([*chunk.input_ids.tolist(), None], labels, strict=True):
        assert label in (IGNORED, token)
        if label == IGNORED and run:
            runs.append(tokenizer.decode(run))
            run = []
        if label != IGNORED:
            run.append(token)
    return runs + ([tokenizer.decode(run)] if run else [])


def message(tokenizer, example, train_on: str = "auto") -> str:
    with pytest.raises(DataError) as caught:
        encode(tokenizer, example, train_on)
    return str(caught.value)


@pytest.mark.parametrize(
    ("template", "expected"),
    [
        (CHATML, ["Yo, ä!<|im_end|>", "Bye.<|im_end|>"]),
        (MARKED, ["Yo, ä!<|im_end|>", "Bye.<|im_end|>"]),
        (INST, [" Yo, ä!<eos>", " Bye.<eos>"]),
        (THINKING, ["Yo, ä!<|im_end|>", "<think>\n\n</think>\n\nBye.<|im_end|>"]),
    ],
    ids=["chatml", "marked", "inst", "thinking"],
)
@pytest.mark.parametrize("corpus", ["", "<|im_start|>assistant\nYo, Bye. [/INST] Yo, there"])
def test_answers_and_their_ends_carry_loss(template, expected, corpus):
    assert learnt(byte_tokenizer(template, corpus=corpus), chat()) == expected


@pytest.mark.parametrize("template", [CHATML, MARKED, INST, THINKING])
def test_tokens_are_those_of_the_whole_conversation(template):
    tokenizer = byte_tokenizer(template, corpus="assistant there now?")
    expected = tokenizer.apply_chat_template(TURNS)["input_ids"]
    assert encode(tokenizer, chat()).input_ids.tolist() == expected


def test_train_on_all_learns_every_token_but_the_first():
    chunk = encode(byte_tokenizer(), chat(), "all")
    assert chunk.labels.tolist() == [*chunk.input_ids[1:].tolist(), IGNORED]


def test_only_the_completion_of_messages_is_an_answer():
    for template in (CHATML, MARKED):
        tokenizer = byte_tokenizer(template)
        assert learnt(tokenizer, chat(first_answer=2)) == ["Bye.<|im_end|>"]


def test_an_answer_may_come_first():
    assert learnt(byte_tokenizer(), chat(TURNS[1:])) == ["Yo, ä!<|im_end|>", "Bye.<|im_end|>"]


def test_an_answer_may_be_empty_and_hold_what_the_question_holds():
    turns = [
        TURNS[0],
        {"role": "assistant", "content": ""},
        TURNS[0],
        {**TURNS[0], "role": "assistant"},
    ]
    assert learnt(byte_tokenizer(), chat(turns)) == ["<|im_end|>", "Hi there<|im_end|>"]


def test_a_question_at_the_end_carries_no_loss():
    assert learnt(byte_tokenizer(), chat(TURNS[:3])) == ["Yo, ä!<|im_end|>"]


def test_smollm2_learns_exactly_the_answers(smollm2):
    chunk = encode(smollm2, chat([{"role": "system", "content": "Be brief."}, *TURNS]))
    tokens = chunk.input_ids.tolist()
    assert (
        tokens
        == smollm2.apply_chat_template([{"role": "system", "content": "Be brief."}, *TURNS])[
            "input_ids"
        ]
    )
    start, end = smollm2.convert_tokens_to_ids(["<|im_start|>", "<|im_end|>"])
    assistant = smollm2("assistant\n")["input_ids"]
    expected = [False] * len(tokens)
    for place, token in enumerate(tokens):
        if token == start and tokens[place + 1 : place + 1 + len(assistant)] == assistant:
            first = place + 1 + len(assistant)
            last = tokens.index(end, first)
            expected[first : last + 1] = [True] * (last + 1 - first)
    labels = [IGNORED, *chunk.labels.tolist()[:-1]]
    assert [label != IGNORED for label in labels] == expected
    assert sum(expected) > 6
    assert learnt(smollm2, chat()) == ["Yo, ä!<|im_end|>", "Bye.<|im_end|>"]


def test_smollm2_default_system_prompt_does_not_hide_an_answer_that_comes_first(smollm2):
    assert learnt(smollm2, chat(TURNS[1:2])) == ["Yo, ä!<|im_end|>"]


def test_plain_completion_is_concatenated_and_ends():
    example = Completion(prompt="1+1=", answer=" 2")
    tokenizer = byte_tokenizer(None)
    assert learnt(tokenizer, example) == [" 2<eos>"]
    assert tokenizer.decode(encode(tokenizer, example).input_ids) == "1+1= 2<eos>"
    assert learnt(tokenizer, example, "all") == ["+1= 2<eos>"]


def test_a_token_across_the_border_of_prompt_and_answer_is_learnt():
    tokenizer = byte_tokenizer(None, corpus="abab abab abab")
    example = Completion(prompt="x a", answer="b")
    assert learnt(tokenizer, example) == ["ab<eos>"]


def test_an_end_that_is_written_is_not_doubled_and_the_begin_is_added():
    tokenizer = byte_tokenizer(None, bos=True)
    tokens = encode(tokenizer, Completion(prompt="a", answer="b<eos>")).input_ids
    assert tokenizer.decode(tokens) == "<bos>ab<eos>"
    text = Text(text="ab<eos>", begins=True, ends=True)
    assert tokenizer.decode(encode(tokenizer, text).input_ids) == "<bos>ab<eos>"
    assert learnt(tokenizer, text) == ["ab<eos>"]


def test_alpaca_becomes_a_chat_or_the_classic_text():
    example = Instruction(instruction="Add.", input="1 1", output="2")
    with_chat, without = byte_tokenizer(), byte_tokenizer(None)
    assert with_chat.decode(encode(with_chat, example).input_ids) == (
        "<|im_start|>user\nAdd.\n\n1 1<|im_end|>\n<|im_start|>assistant\n2<|im_end|>\n"
    )
    assert learnt(with_chat, example) == ["2<|im_end|>"]
    text = without.decode(encode(without, example).input_ids)
    assert text.endswith("### Instruction:\nAdd.\n\n### Input:\n1 1\n\n### Response:\n2<eos>")
    assert learnt(without, example) == ["2<eos>"]
    bare = Instruction(instruction="Add.", input="", output="2")
    assert "### Input" not in without.decode(encode(without, bare).input_ids)
    assert "user\nAdd.<|im_end|>" in with_chat.decode(encode(with_chat, bare).input_ids)


def test_the_pieces_of_a_document_are_one_document():
    tokenizer = byte_tokenizer(None, bos=True)
    parts = [("one ", True, False), ("two", False, False), (" three", False, True)]
    examples = [("here", Text(text=t, begins=b, ends=e)) for t, b, e in parts]
    chunks = list(Encoder(tokenizer, "auto").encode(examples))
    tokens = [t for chunk in chunks for t in chunk.input_ids.tolist()]
    labels = [t for chunk in chunks for t in chunk.labels.tolist()]
    assert tokenizer.decode(tokens) == "<bos>one two three<eos>"
    assert labels == [*tokens[1:], IGNORED]
    assert [chunk.begins for chunk in chunks] == [True, False, False]


def test_empty_documents_are_counted_and_give_nothing():
    encoder = Encoder(byte_tokenizer(), "auto")
    empty = ("here", Text(text="", begins=True, ends=True))
    assert list(encoder.encode([empty, empty])) == []
    assert encoder.num_empty == 2


def test_many_examples_come_out_in_order():
    tokenizer = byte_tokenizer(MARKED)
    examples = []
    for number in range(300):
        turns = [TURNS[0], {"role": "assistant", "content": str(number)}]
        examples.append(("here", chat(turns, first_answer=number % 2)))
    chunks = Encoder(tokenizer, "auto").encode(examples)
    answers = [tokenizer.decode([t for t in c.labels if t != IGNORED]) for c in chunks]
    assert answers == [f"{number}<|im_end|>" for number in range(300)]


def test_tools_reach_the_template():
    template = "{{ tools[0]['name'] }}" + CHATML
    tokenizer = byte_tokenizer(template)
    example = Chat(messages=tuple(TURNS), tools=({"name": "search"},))
    assert tokenizer.decode(encode(tokenizer, example).input_ids).startswith("search<|im_start|>")


def test_no_answer_to_learn():
    assert message(byte_tokenizer(), chat(TURNS[:1])) == (
        "here: no message of the assistant, so there is no answer to learn; "
        "--train-on all learns the whole conversation."
    )
    assert learnt(byte_tokenizer(), chat(TURNS[:1]), "all")


def test_no_chat_template():
    assert message(byte_tokenizer(None), chat()) == (
        "here: a conversation needs a chat template and the tokenizer has none; take the tokenizer "
        "of an instruction-tuned model with --tokenizer."
    )


def test_text_has_no_answer():
    assert message(byte_tokenizer(), Text(text="a", begins=True, ends=True), "answer") == (
        "here: plain text has no answer; --train-on answer needs one."
    )


def test_a_template_that_refuses_the_conversation_is_quoted():
    assert message(byte_tokenizer(INST), chat(TURNS[1:])) == (
        "here: the chat template does not take this conversation: roles must alternate."
    )


@pytest.mark.parametrize("turns", [TURNS, TURNS[1:]])
def test_a_template_whose_answers_cannot_be_told_is_refused(turns):
    number = 2 if turns is TURNS else 1
    assert message(byte_tokenizer(TOTALS), chat(turns)) == (
        f"here: the chat template renders message {number} so that its answer cannot be told from "
        "the rest; mark it with {% generation %} in the template, or use --train-on all."
    )
