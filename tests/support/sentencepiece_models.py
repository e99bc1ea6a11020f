"""Small SentencePiece tokenizers, as transformers stores them, beside a tiny model."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import sentencepiece

TEXTS = (
    "The quick brown fox jumps over the lazy dog. Lamps are turned on and off again.",
    "def lamp(number):\n    return {'lamp': number, 'on': True}  # 12345",
    "Größe, façade, naïve, Übung, señor, crème brûlée: nine years later they were all there.",
    "Быстрая коричневая лиса прыгает через ленивую собаку. 今天天气很好。 こんにちは世界。",
    "مرحبا بالعالم नमस्ते दुनिया 안녕하세요 세계 שלום עולם Καλημέρα κόσμε",
)


def write_sentencepiece(folder: Path, *, prefix: bool = True, size: int = 400) -> Path:
    """Replace a tiny model's tokenizer by SentencePiece's BPE with bytes for unknown characters.

    With `prefix` as of Llama 2, without as of Gemma, which also has runs of spaces as tokens.
    """
    trained = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter([line for text in TEXTS for line in text.splitlines()] * 3),
        model_writer=trained,
        model_type="bpe",
        vocab_size=size,
        byte_fallback=True,
        character_coverage=0.99,
        normalization_rule_name="identity",
        add_dummy_prefix=prefix,
        remove_extra_whitespaces=False,
        user_defined_symbols=[] if prefix else ["\u2581\u2581", "\u2581\u2581\u2581", "\n\n"],
        minloglevel=2,
    )
    pieces = sentencepiece.SentencePieceProcessor(model_proto=trained.getvalue())
    (folder / "tokenizer.json").write_text(json.dumps(_tokenizer(pieces, prefix)))
    file = folder / "tokenizer_config.json"
    settings = json.loads(file.read_text())
    settings |= {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>", "pad_token": None}
    file.write_text(json.dumps({**settings, "tokenizer_class": "PreTrainedTokenizerFast"}))
    return folder


def _tokenizer(pieces: Any, prefix: bool) -> dict[str, Any]:
    """What transformers makes of a SentencePiece model."""
    count = pieces.get_piece_size()
    vocabulary = {pieces.id_to_piece(index): index for index in range(count)}
    scores = {pieces.id_to_piece(index): pieces.get_score(index) for index in range(count)}
    merges = []
    for piece, score in scores.items():
        for at in range(1, len(piece)):
            if piece[:at] in vocabulary and piece[at:] in vocabulary:
                merges.append((-score, (piece[:at], piece[at:])))
    special = [
        index for index in range(count) if pieces.is_control(index) or pieces.is_unknown(index)
    ]
    defined = (
        [
            index
            for index in range(count)
            if pieces.id_to_piece(index) in ("\u2581\u2581", "\u2581\u2581\u2581", "\n\n")
        ]
        if not prefix
        else []
    )
    replaced = {"type": "Replace", "pattern": {"String": " "}, "content": "\u2581"}
    before = {"type": "Prepend", "prepend": "\u2581"}
    return {
        "version": "1.0",
        "added_tokens": [
            _added(pieces.id_to_piece(each), each, each in special)
            for each in sorted({*special, *defined})
        ],
        "normalizer": {"type": "Sequence", "normalizers": [before, replaced]}
        if prefix
        else replaced,
        "pre_tokenizer": None,
        "post_processor": {
            "type": "TemplateProcessing",
            "single": [
                {"SpecialToken": {"id": "<s>", "type_id": 0}},
                {"Sequence": {"id": "A", "type_id": 0}},
            ],
            "pair": [
                {"Sequence": {"id": "A", "type_id": 0}},
                {"Sequence": {"id": "B", "type_id": 0}},
            ],
            "special_tokens": {"<s>": {"id": "<s>", "ids": [1], "tokens": ["<s>"]}},
        },
        "decoder": {
            "type": "Sequence",
            "decoders": [
                {"type": "Replace", "pattern": {"String": "\u2581"}, "content": " "},
                {"type": "ByteFallback"},
                {"type": "Fuse"},
                *([{"type": "Strip", "content": " ", "start": 1, "stop": 0}] if prefix else []),
            ],
        },
        "model": {
            "type": "BPE",
            "unk_token": "<unk>",
            "fuse_unk": True,
            "byte_fallback": True,
            "vocab": vocabulary,
            "merges": [list(pair) for _, pair in sorted(merges, key=lambda each: each[0])],
        },
    }


def _added(text: str, index: int, special: bool) -> dict[str, Any]:
    flags = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
    return {"id": index, "content": text, "special": special, **flags, "normalized": not special}
