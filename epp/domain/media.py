"""Images, video and audio among a prompt's text, and how many tokens each is taken for.

The formulas are those of the models that see in patches: a picture of w x h pixels is
w * h / factor tokens, a video so many for each group of frames, audio so many a second.
"""

from typing import Final, Literal, TypeAlias

import msgspec

MediumKind: TypeAlias = Literal["image", "video", "audio"]

MOST_TOKENS: Final = 131_072
"""What one image or clip counts at most, whatever it or a header says of its size."""


class Medium(msgspec.Struct, frozen=True):
    """One of them, by a digest of its URL or data. 0 stands for what nobody can tell."""

    kind: MediumKind
    digest: int
    tokens: int
    """Those of its stand-in among the prompt's text."""
    width: int = 0
    height: int = 0
    size: int = 0
    """Bytes; 0 where all there is is a URL."""
    seconds: float = 0.0


class Clip(msgspec.Struct, frozen=True):
    """What a client says of its video, by header."""

    width: int = 0
    height: int = 0
    seconds: float = 0.0
    fps: float = 0.0


UNKNOWN: Final = Clip()


class Pictures(msgspec.Struct, frozen=True):
    """Tokens of an image, or of one frame: `fixed`, or by pixels where that is 0."""

    fixed: int = 0
    factor: int = 1024
    """Pixels to a token."""
    width: int = 640
    height: int = 360

    def tokens(self, width: int = 0, height: int = 0) -> int:
        """Of a picture of this size, the usual one where it is not known."""
        if self.fixed:
            return self.fixed
        if not (width and height):
            width, height = self.width, self.height
        return max(width * height // self.factor, 1)


class Frames(msgspec.Struct, frozen=True):
    """How many frames of a video are looked at: `sampled` by time, or every `stride`-th."""

    strided: bool = False
    sample_fps: float = 1.0
    patch: int = 1
    """Sampled frames that become one."""
    source_fps: float = 24.0
    stride: int = 1
    least: int = 0
    most: int = 0
    """0: any number."""

    def count(self, seconds: float, fps: float = 0.0) -> int:
        """Of a video so long, of so many frames a second."""
        rate = (fps or self.source_fps) / self.stride if self.strided else self.sample_fps
        count = max(int(min(seconds * rate, MOST_TOKENS)), self.least)
        count = min(count, self.most) if self.most else count
        return count if self.strided else count // self.patch


class Sounds(msgspec.Struct, frozen=True):
    """Tokens of audio: `fixed`, or by its length where that is 0."""

    fixed: int = 0
    per_second: float = 12.5
    overhead: int = 14
    bytes_per_second: int = 16_000
    """Of data whose length in seconds it does not say itself."""
    seconds: float = 10.0
    most: int = 0

    def tokens(self, medium: Medium) -> int:
        if self.fixed:
            return self.fixed
        seconds = medium.seconds or medium.size / self.bytes_per_second or self.seconds
        tokens = self.overhead + int(min(self.per_second * seconds, MOST_TOKENS))
        return min(tokens, self.most) if self.most else tokens


class Estimate(msgspec.Struct, frozen=True):
    """Tokens of images, video and audio where no engine has told them."""

    images: Pictures = Pictures()
    frame: Pictures = Pictures()
    frames: Frames = Frames()
    seconds: float = 10.0
    """Of a video."""
    most_video: int = 0
    sounds: Sounds = Sounds()

    def tokens(self, medium: Medium, clip: Clip = UNKNOWN) -> int:
        """From 1 to `MOST_TOKENS`."""
        if medium.kind == "image":
            tokens = self.images.tokens(medium.width, medium.height)
        elif medium.kind == "audio":
            tokens = self.sounds.tokens(medium)
        else:
            tokens = self._video(clip)
        return min(max(tokens, 1), MOST_TOKENS)

    def _video(self, clip: Clip) -> int:
        frames = self.frames.count(clip.seconds or self.seconds, clip.fps)
        tokens = frames * self.frame.tokens(clip.width, clip.height)
        return min(tokens, self.most_video) if self.most_video else tokens


BY_DEFAULT: Final = Estimate()
