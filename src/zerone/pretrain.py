"""Makes the embedded base model from nothing: tokenizer, corpus, pre-training.

In: a seed and a number of steps. Out: a transformers directory with a provenance file.
The data are generated as they are needed (corpus/documents.py); step i sees documents that are a
function of (seed, i). Try it: `zerone pretrain --out base pretrain.steps=20`.

Dimensions: N tokens of a batch, V vocabulary.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from zerone.corpus.documents import Document, Habits, draw_document
from zerone.corpus.tokenizer import train_tokenizer
from zerone.model.decoder import Decoder
from zerone.model.packed import Packed, pack, packed_hidden
from zerone.train.optim import apply_update, muon_with_adamw, warmup_stable_decay

_NUM_TOKENIZER_DOCUMENTS = 20_000
_TOKENS_PER_MICROBATCH = 4096


@dataclass(frozen=True, slots=True, kw_only=True)
class Architecture:
    """The shape of the embedded model (a stock Qwen3 configuration)."""

    width: int = 128
    layers: int = 5
    heads: int = 4
    kv_heads: int = 2
    head_size: int = 32
    mlp_width: int = 384
    context: int = 1024
    vocabulary: int = 768


def new_model(architecture: Architecture, seed: int, end_id: int) -> Any:
    """Return a randomly initialised Qwen3 model in fp32."""
    from transformers import Qwen3Config, Qwen3ForCausalLM

    torch.manual_seed(seed)
    config = Qwen3Config(
        vocab_size=architecture.vocabulary,
        hidden_size=architecture.width,
        intermediate_size=architecture.mlp_width,
        num_hidden_layers=architecture.layers,
        num_attention_heads=architecture.heads,
        num_key_value_heads=architecture.kv_heads,
        head_dim=architecture.head_size,
        max_position_embeddings=architecture.context,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=end_id,
        pad_token_id=end_id,
    )
    return Qwen3ForCausalLM(config).float()


def build_tokenizer(seed: int, vocabulary: int, habits: Habits) -> Any:
    """Train the tokenizer on a sample of the corpus."""
    texts = (draw_document(seed, index, index % 2, habits).text for index in range(_NUM_TOKENIZER_DOCUMENTS))
    return train_tokenizer(texts, vocabulary)


@dataclass(frozen=True, slots=True)
class Encoded:
    """A document as ids: the shared prefix (or none) and the rest with its end token."""

    prefix: tuple[int, ...]
    body: tuple[int, ...]


def encode(tokenizer: Any, document: Document) -> Encoded:
    """Tokenise the parts of a document one by one."""
    prefix, *body = ([] if not part else tokenizer(part)["input_ids"] for part in document.parts)
    return Encoded(tuple(prefix), (*(token for part in body for token in part), tokenizer.eos_token_id))


def documents_of_step(
    seed: int, step: int, progress: float, habits: Habits, num_documents: int
) -> Iterator[Document]:
    """Yield the documents of one step."""
    start = _NUM_TOKENIZER_DOCUMENTS + step * num_documents
    for index in range(start, start + num_documents):
        yield draw_document(seed, index, progress, habits)


def pack_documents(documents: Sequence[Encoded], max_tokens: int) -> list[Packed]:
    """Pack documents into micro-batches of about `max_tokens`.

    Documents with the same prefix share it, and neighbours are equally long.
    """
    ordered = sorted(documents, key=lambda d: (d.prefix, len(d.body)))
    batches: list[list[tuple[tuple[int, ...], list[tuple[int, ...]]]]] = []
    num_tokens = max_tokens
    for document in ordered:
        if num_tokens >= max_tokens:
            batches.append([])
            num_tokens = 0
        segments = batches[-1]
        if not segments or segments[-1][0] != document.prefix:
            segments.append((document.prefix, []))
            num_tokens += len(document.prefix)
        segments[-1][1].append(document.body)
        num_tokens += len(document.body)
    return [pack(segments) for segments in batches]


def next_tokens(packed: Packed) -> tuple[Tensor, Tensor]:
    """Return (indices of tokens that predict, what they should predict) within the flat batch.

    A row's first token is predicted by the last token of its prompt.
    """
    if packed.num_prefix:
        raise AssertionError("documents are packed without a prefix of the whole batch")
    sources, targets = [], []
    offset = 0
    for segment in packed.segments:
        last_of_prompt = offset + segment.num_prompt - 1
        if segment.num_prompt:
            sources.append(torch.arange(offset, last_of_prompt))
            targets.append(torch.arange(offset + 1, last_of_prompt + 1))
        offset += segment.num_prompt
        for block in segment.blocks:
            is_first = (block.flat_C % block.length) == 0
            index_C = torch.arange(offset, offset + len(block.flat_C))
            source_C = torch.where(is_first, last_of_prompt, index_C - 1)
            keep_C = ~is_first if segment.num_prompt == 0 else torch.ones_like(is_first)
            sources.append(source_C[keep_C])
            targets.append(index_C[keep_C])
            offset += len(block.flat_C)
    return torch.cat(sources), packed.tokens_N[torch.cat(targets)]


def language_model_loss(model: Any, batches: Sequence[Packed]) -> float:
    """Add the gradient of the mean negative log-likelihood per predicted token; return the mean."""
    pairs = [next_tokens(packed) for packed in batches]
    num_targets = sum(len(targets) for _, targets in pairs)
    total = 0.0
    for packed, (sources, targets) in zip(batches, pairs, strict=True):
        decoder = Decoder(model)
        hidden_ND = packed_hidden(decoder, packed).index_select(0, sources)
        loss = functional.cross_entropy(decoder.logits(hidden_ND), targets, reduction="sum") / num_targets
        loss.backward()
        total += loss.item()
    return total


def new_optimizers(model: Any, learning_rate: float) -> list[torch.optim.Optimizer]:
    """Return Muon for the matrices and AdamW for the rest, before their first step."""
    return muon_with_adamw(model, learning_rate, weight_decay=0.01)


@dataclass(frozen=True, slots=True, kw_only=True)
class Course:
    """How a model is trained: documents of which seed and habits, how many, at what rate."""

    seed: int
    num_steps: int
    documents_per_step: int
    learning_rate: float
    habits: Habits


def pretrain(
    model: Any,
    tokenizer: Any,
    course: Course,
    on_step: Callable[[int, float, int], None],
    optimizers: Sequence[torch.optim.Optimizer] = (),
    start: int = 0,
) -> None:
    """Train in place from step `start`; `on_step(step, loss, num_tokens)` is called after every update.

    Whoever goes on with a training gives the optimisers of `new_optimizers` as they were then.
    """
    optimizers = optimizers or new_optimizers(model, course.learning_rate)
    peak, num_steps = course.learning_rate, course.num_steps
    for step in range(start, num_steps):
        documents = documents_of_step(
            course.seed, step, step / num_steps, course.habits, course.documents_per_step
        )
        batches = pack_documents(
            [encode(tokenizer, document) for document in documents], _TOKENS_PER_MICROBATCH
        )
        loss = language_model_loss(model, batches)
        apply_update(
            [model],
            optimizers,
            loss=loss,
            learning_rate=warmup_stable_decay(step, peak, 30, num_steps, decay_part=0.4),
            max_grad_norm=1.0,
            rate_option="pretrain.learning_rate",
        )
        on_step(step, loss, sum(len(packed.tokens_N) for packed in batches))
