"""A model folder that real vLLM can load: two layers of noise, one token for each byte.

Written as plain JSON, so that neither weights nor a tokenizer library nor a network are needed;
vLLM draws the weights itself (`--load-format dummy`).
"""

from __future__ import annotations

import json
import struct
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

HIDDEN = 128
INNER = 256
HEADS = 4
KV_HEADS = 2
HEAD_DIM = 32
LAYERS = 2
POSITIONS = 4096
SPECIAL = ("<pad>", "<s>", "</s>", "<|im_start|>", "<|im_end|>")
BYTES = 256
VOCABULARY = BYTES + len(SPECIAL)
BOS, EOS = BYTES + 1, BYTES + 2
LORA_RANK = 8

CHAT_TEMPLATE = (
    "{% if tools %}<|im_start|>tools\n{{ tools | tojson }}<|im_end|>\n{% endif %}"
    "{% for message in messages %}<|im_start|>{{ message.role }}\n"
    "{{ message.content or '' }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def byte_letters() -> dict[int, str]:
    """The printable letter that byte-level BPE writes for each byte."""
    plain = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    letters = {byte: chr(byte) for byte in plain}
    others = [byte for byte in range(BYTES) if byte not in letters]
    return letters | {byte: chr(BYTES + place) for place, byte in enumerate(others)}


def model_config() -> dict[str, Any]:
    """A Llama that has every part and no size."""
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_size": HIDDEN,
        "intermediate_size": INNER,
        "num_hidden_layers": LAYERS,
        "num_attention_heads": HEADS,
        "num_key_value_heads": KV_HEADS,
        "head_dim": HEAD_DIM,
        "max_position_embeddings": POSITIONS,
        "vocab_size": VOCABULARY,
        "hidden_act": "silu",
        "rms_norm_eps": 1e-5,
        "rope_theta": 10000.0,
        "tie_word_embeddings": False,
        "bos_token_id": BOS,
        "eos_token_id": EOS,
        "torch_dtype": "float32",
    }


def tokenizer() -> dict[str, Any]:
    """Byte-level BPE without a merge: a byte is a token, its id is the byte."""
    added = [
        {
            "id": BYTES + place,
            "content": text,
            "special": True,
            "single_word": False,
            "lstrip": False,
            "rstrip": False,
            "normalized": False,
        }
        for place, text in enumerate(SPECIAL)
    ]
    vocabulary = {letter: byte for byte, letter in sorted(byte_letters().items())}
    byte_level = {
        "type": "ByteLevel",
        "add_prefix_space": False,
        "trim_offsets": True,
        "use_regex": False,
    }
    model = {
        "type": "BPE",
        "dropout": None,
        "unk_token": None,
        "continuing_subword_prefix": None,
        "end_of_word_suffix": None,
        "fuse_unk": False,
        "byte_fallback": False,
        "vocab": vocabulary,
        "merges": [],
    }
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": added,
        "normalizer": None,
        "pre_tokenizer": byte_level,
        "post_processor": None,
        "decoder": byte_level,
        "model": model,
    }


def write_model(folder: Path) -> Path:
    """The model's folder, ready for `vllm serve`."""
    folder.mkdir(parents=True, exist_ok=True)
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": "<s>",
        "eos_token": "</s>",
        "pad_token": "<pad>",
        "model_max_length": POSITIONS,
        "clean_up_tokenization_spaces": False,
        "chat_template": CHAT_TEMPLATE,
    }
    generation = {"bos_token_id": BOS, "eos_token_id": EOS, "pad_token_id": BYTES}
    files = {
        "config.json": model_config(),
        "generation_config.json": generation,
        "tokenizer.json": tokenizer(),
        "tokenizer_config.json": settings,
    }
    for name, content in files.items():
        (folder / name).write_text(json.dumps(content))
    return folder


def write_adapter(folder: Path) -> Path:
    """A LoRA adapter's folder: zeros for the query projections, in safetensors' layout."""
    folder.mkdir(parents=True, exist_ok=True)
    config = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "r": LORA_RANK,
        "lora_alpha": LORA_RANK,
        "lora_dropout": 0.0,
        "bias": "none",
        "target_modules": ["q_proj"],
        "base_model_name_or_path": "tiny",
    }
    (folder / "adapter_config.json").write_text(json.dumps(config))
    (folder / "adapter_model.safetensors").write_bytes(_safetensors(_adapter_shapes()))
    return folder


def _adapter_shapes() -> dict[str, tuple[int, int]]:
    shapes: dict[str, tuple[int, int]] = {}
    for layer in range(LAYERS):
        stem = f"base_model.model.model.layers.{layer}.self_attn.q_proj"
        shapes[f"{stem}.lora_A.weight"] = (LORA_RANK, HIDDEN)
        shapes[f"{stem}.lora_B.weight"] = (HEADS * HEAD_DIM, LORA_RANK)
    return shapes


def _safetensors(shapes: dict[str, tuple[int, int]]) -> bytes:
    """Zero tensors of float32: eight bytes of header length, the JSON header, the data."""
    header: dict[str, Any] = {}
    at = 0
    for name, (rows, columns) in shapes.items():
        end = at + rows * columns * 4
        header[name] = {"dtype": "F32", "shape": [rows, columns], "data_offsets": [at, end]}
        at = end
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text + bytes(at)
