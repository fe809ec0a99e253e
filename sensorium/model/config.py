"""The network's shape. One dial, `depth`, derives the rest; a preset is a depth with a name.

depth      6     8     12     16     24      32      64      80
preset   nano  tiny  small   base    (rows on paper: nobody has trained them)
width    192   256   384    512    1536    2048    8192   10240
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

HEAD_DIM = 64


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """Everything `Transformer` needs to know. Ids below `audio_start` are language, the others signal.

    `audio_start` and `image_start` are where the semantic audio codes and the image codes begin in the
    main vocabulary (tokenizers/vocab.py owns the table; the network only needs its borders).
    """

    num_layers: int
    hidden_size: int
    num_heads: int
    vocab_size: int
    audio_start: int
    image_start: int
    max_seq_len: int = 1024
    audio_codes: int = 1000
    num_residuals: int = 7  # residual codes of an audio frame, predicted by the depth head
    residual_size: int = 256
    num_image_residuals: int = 0  # residual codes of an image patch, by a depth head of their own; 0 makes none
    image_residual_size: int = 256
    depth_size: int = 128  # width of the depth heads
    depth_head: Literal["prefix_sum", "transformer", "independent"] = "prefix_sum"
    num_patches: int = 64
    feature_size: int = 192  # width of the tokenizers' continuous features
    ffn: Literal["shared", "per_group"] = "shared"
    value_embeddings: bool = True
    logit_cap: float = 20.0
    rope_theta: float = 10_000.0

    def __post_init__(self) -> None:
        if self.num_heads * HEAD_DIM != self.hidden_size:
            raise ValueError(f"hidden_size {self.hidden_size} is not num_heads {self.num_heads} x {HEAD_DIM}")

    @property
    def image_codes(self) -> int:
        """The image codes end the vocabulary; what pads it is counted with them."""
        return self.vocab_size - self.image_start


def width_of_depth(depth: int) -> int:
    """Small networks are deep for their width, since a wide one would be all embeddings."""
    aspect = 32 if depth <= 16 else 64 if depth <= 32 else 128
    return aspect * depth


def from_depth(depth: int, *, vocab_size: int, audio_start: int, image_start: int, **changes: Any) -> ModelConfig:
    """The configuration at one setting of the dial. `changes` override single fields (for ablations)."""
    if depth < 2 or depth % 2:
        raise ValueError(f"depth must be an even number of at least 2, not {depth}")
    width = width_of_depth(depth)
    fields: dict[str, Any] = {
        "num_layers": depth,
        "hidden_size": width,
        "num_heads": width // HEAD_DIM,
        "vocab_size": vocab_size,
        "audio_start": audio_start,
        "image_start": image_start,
        "depth_size": 128 if depth <= 8 else 256,
    }
    return ModelConfig(**(fields | changes))


PRESET_DEPTHS = {"nano": 6, "tiny": 8, "small": 12, "base": 16}
