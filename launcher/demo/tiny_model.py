"""Language models of half a megabyte, written on the spot, so that the demo needs no download.

A real GGUF file: llama architecture, a byte-level BPE vocabulary with a few hundred whole
words, a ChatML template, random weights. Random weights alone would produce random bytes, so
the embedding and the output matrix also carry a class for each token (opener, subject, verb,
...) and which class follows which: the model writes nonsense in whole sentences, in the words
of its theme.

Needs the `demo` extra (gguf, numpy).
"""

from __future__ import annotations

import math
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from gguf import GGUFWriter, TokenType


@dataclass(frozen=True, slots=True)
class Theme:
    """The words of one model, by their part in a sentence."""

    name: str
    subjects: tuple[str, ...]
    verbs: tuple[str, ...]
    adjectives: tuple[str, ...]
    objects: tuple[str, ...]


def _theme(name: str, *, subjects: str, verbs: str, adjectives: str, objects: str) -> Theme:
    return Theme(
        name,
        tuple(subjects.split()),
        tuple(verbs.split()),
        tuple(adjectives.split()),
        tuple(objects.split()),
    )


SEA = _theme(
    "sea",
    subjects=(
        "gull whale sailor captain crab dolphin pilot turtle octopus pelican shark seal "
        "mermaid pirate lobster heron diver fisherman helmsman navigator"
    ),
    verbs=(
        "follows crosses finds watches hears forgets charts carries leaves rounds chases "
        "reaches guards salutes remembers steers trusts loses meets circles"
    ),
    adjectives=(
        "grey salty deep calm restless distant silver drowned windy northern foggy blue "
        "narrow endless sunken quiet stormy tidal green old"
    ),
    objects=(
        "tide harbour wave storm reef anchor lighthouse lagoon current shore island sail "
        "wreck horizon channel buoy compass pier net coral"
    ),
)

KITCHEN = _theme(
    "kitchen",
    subjects=(
        "cook baker chef guest waiter grandmother butcher gardener brewer taster neighbour "
        "apprentice confectioner cat miller grocer critic pastrycook sommelier dishwasher"
    ),
    verbs=(
        "stirs tastes peels bakes chops seasons serves burns folds kneads simmers whisks "
        "pours roasts grates slices butters boils shares spills"
    ),
    adjectives=(
        "warm crisp sweet bitter golden ripe buttery smoky fresh spicy sour tender toasted "
        "creamy peppery sticky fragrant raw hot crumbly"
    ),
    objects=(
        "soup bread onion garlic pepper dumpling custard broth pancake tomato butter lemon "
        "noodle pie sauce cinnamon mushroom potato omelette kettle"
    ),
)

THEMES = {theme.name: theme for theme in (SEA, KITCHEN)}

#: Capitalised; each begins a sentence.
OPENERS = ("The", "Every", "No", "One", "This", "That")
DETERMINERS = ("the", "another", "every", "some", "this", "that")
PREPOSITIONS = ("near", "behind", "under", "beyond", "beside", "without", "after", "before")
#: Roles of a ChatML prompt, so that it costs few tokens.
CHAT_WORDS = ("user", "assistant", "system")


Matrix = npt.NDArray[np.float32]

WIDTH = 64
HEADS = 4
FEED_FORWARD = 128
CONTEXT = 32_768
NORM_EPSILON = 1e-5

#: Logit of what may not follow; far below what the usual samplers (min_p 0.05) let through.
NEVER = -20.0

CHATML = (
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)

#: What follows what, with which probability. `other` is anything a prompt may end with.
GRAMMAR: dict[str, dict[str, float]] = {
    "other": {"first": 1.0},
    "first": {"subject": 1.0},
    "opener": {"subject": 1.0},
    "subject": {"verb": 1.0},
    "verb": {"determiner": 1.0},
    "determiner": {"adjective": 0.6, "object": 0.4},
    "adjective": {"object": 1.0},
    "object": {"stop": 0.7, "preposition": 0.3},
    "preposition": {"determiner": 1.0},
    "stop": {"opener": 0.92, "end": 0.08},
    "end": {"first": 1.0},
}
CLASSES = tuple(GRAMMAR)


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """Tokens by id, the merges that build them, and each token's part in a sentence."""

    tokens: list[str]
    types: list[TokenType]
    merges: list[str]
    classes: list[str]
    end: int
    """Id of `<|im_end|>`."""


def byte_alphabet() -> list[str]:
    """One printable character per byte value, as GPT-2's byte-level BPE spells them.

    Printable Latin-1 stands for itself, the other bytes for U+0100 onwards in order
    (`bytes_to_unicode` of OpenAI's GPT-2 encoder).
    """
    printable = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    spare = iter(range(0x100, 0x200))
    return [chr(value if value in printable else next(spare)) for value in range(256)]


def vocabulary(theme: Theme) -> Vocabulary:
    """The vocabulary, the same for every theme but for the classes: a model says only the
    words that have one."""
    alphabet = byte_alphabet()
    space = alphabet[ord(" ")]
    spoken: dict[str, str] = {".": "stop"}
    for words, kind in (
        (OPENERS, "opener"),
        (theme.subjects, "subject"),
        (theme.verbs, "verb"),
        (theme.adjectives, "adjective"),
        (theme.objects, "object"),
        (DETERMINERS, "determiner"),
        (PREPOSITIONS, "preposition"),
    ):
        spoken.update((space + word, kind) for word in words)
    spoken.update((word, "first") for word in OPENERS)

    whole_words = sorted(
        {
            *(space + word for one in THEMES.values() for word in _words(one)),
            *(space + word for word in (*OPENERS, *DETERMINERS, *PREPOSITIONS, *CHAT_WORDS)),
            *OPENERS,
            *CHAT_WORDS,
        },
        # Words that begin with a space come first, and so do their merges: a merge from
        # the middle of one word then never breaks up another that begins with a space.
        key=lambda word: (not word.startswith(space), word),
    )
    controls = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    tokens = [*alphabet, *whole_words, *controls]
    classes = [spoken.get(token, "other") for token in tokens]
    end = tokens.index("<|im_end|>")
    classes[end] = "end"
    return Vocabulary(
        tokens=tokens,
        types=[TokenType.NORMAL] * (len(tokens) - len(controls))
        + [TokenType.CONTROL] * len(controls),
        merges=_merges(whole_words),
        classes=classes,
        end=end,
    )


def _words(theme: Theme) -> tuple[str, ...]:
    return (*theme.subjects, *theme.verbs, *theme.adjectives, *theme.objects)


def _merges(words: list[str]) -> list[str]:
    """Each word is built from its left, a letter at a time. The pieces on the way need no
    tokens of their own: llama.cpp falls back to bytes where a merge ends in none."""
    merges: dict[str, None] = {}
    for word in words:
        for cut in range(1, len(word)):
            merges[f"{word[:cut]} {word[cut]}"] = None
    return list(merges)


def embeddings(vocab: Vocabulary, random: np.random.Generator) -> tuple[Matrix, Matrix]:
    """Token embedding and output matrix, each (tokens, WIDTH).

    The first dimensions are one per class. RMSNorm scales a hidden vector that is all but
    one-hot to sqrt(WIDTH) in that dimension, so an output weight of logit/sqrt(WIDTH) adds
    `logit`: the log of how likely this token is after that class. The other dimensions are
    noise, which gives each word its own leanings.
    """
    embedding = random.normal(0.0, 0.02, (len(vocab.tokens), WIDTH))
    output = random.normal(0.0, 0.5, (len(vocab.tokens), WIDTH))
    sizes = {kind: vocab.classes.count(kind) for kind in CLASSES}
    for token, kind in enumerate(vocab.classes):
        embedding[token, CLASSES.index(kind)] += 1.0
        for before, followers in GRAMMAR.items():
            likely = followers.get(kind, 0.0) / sizes[kind]
            logit = math.log(likely) if likely else NEVER
            output[token, CLASSES.index(before)] = logit / math.sqrt(WIDTH)
    return embedding.astype(np.float32), output.astype(np.float32)


def write_tiny_model(path: Path, theme: Theme, *, seed: int = 0) -> None:
    """Write the model of a theme as a GGUF file; the same seed gives the same weights.

    Atomic: a reader sees a whole file or none. Raises OSError.
    """
    random = np.random.default_rng(seed)
    vocab = vocabulary(theme)
    embedding, output = embeddings(vocab, random)

    def noise(rows: int, columns: int) -> Matrix:
        return random.normal(0.0, 0.02, (rows, columns)).astype(np.float32)

    unfinished = path.with_name(f".{path.name}.{os.getpid()}")
    writer = GGUFWriter(unfinished, "llama")
    writer.add_name(f"tiny {theme.name}")
    writer.add_description("Random weights that speak in whole words. For demonstrations.")
    writer.add_context_length(CONTEXT)
    writer.add_embedding_length(WIDTH)
    writer.add_block_count(1)
    writer.add_feed_forward_length(FEED_FORWARD)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(HEADS)
    writer.add_rope_dimension_count(WIDTH // HEADS)
    writer.add_layer_norm_rms_eps(NORM_EPSILON)
    writer.add_vocab_size(len(vocab.tokens))
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list(vocab.tokens)
    writer.add_token_types(vocab.types)
    writer.add_token_merges(vocab.merges)
    writer.add_bos_token_id(vocab.tokens.index("<|endoftext|>"))
    writer.add_eos_token_id(vocab.end)
    writer.add_eot_token_id(vocab.end)
    writer.add_add_bos_token(False)
    writer.add_chat_template(CHATML)

    writer.add_tensor("token_embd.weight", embedding)
    writer.add_tensor("output.weight", output)
    writer.add_tensor("output_norm.weight", np.ones(WIDTH, np.float32))
    writer.add_tensor("blk.0.attn_norm.weight", np.ones(WIDTH, np.float32))
    writer.add_tensor("blk.0.ffn_norm.weight", np.ones(WIDTH, np.float32))
    for name in ("attn_q", "attn_k", "attn_v", "attn_output"):
        writer.add_tensor(f"blk.0.{name}.weight", noise(WIDTH, WIDTH))
    writer.add_tensor("blk.0.ffn_gate.weight", noise(FEED_FORWARD, WIDTH))
    writer.add_tensor("blk.0.ffn_up.weight", noise(FEED_FORWARD, WIDTH))
    writer.add_tensor("blk.0.ffn_down.weight", noise(WIDTH, FEED_FORWARD))

    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    unfinished.replace(path)
