"""How a configuration says what images, video and audio count, as the Go picker's do."""

from typing import Literal

from pydantic import Field

from epp.config.params import PluginParams
from epp.domain.media import Estimate, Frames, Pictures, Sounds


class Resolution(PluginParams):
    width: int = Field(default=640, ge=1, le=65_536)
    height: int = Field(default=360, ge=1, le=65_536)


class ByPixels(PluginParams):
    factor: int = Field(default=1024, ge=1)


class StaticImage(PluginParams):
    static_token: int = Field(default=1, ge=1)


class StaticFrame(PluginParams):
    num_tokens_per_frame: int = Field(default=1, ge=1)


class Image(PluginParams):
    """By its pixels, or a fixed number."""

    mode: Literal["dynamic", "static"] = "dynamic"
    default_resolution: Resolution = Field(default_factory=Resolution)
    dynamic: ByPixels = Field(default_factory=ByPixels)
    static: StaticImage = Field(default_factory=StaticImage)

    def pictures(self) -> Pictures:
        return Pictures(
            fixed=self.static.static_token if self.mode == "static" else 0,
            factor=self.dynamic.factor,
            width=self.default_resolution.width,
            height=self.default_resolution.height,
        )


class TokensPerFrame(PluginParams):
    mode: Literal["dynamic", "static"] = "dynamic"
    dynamic: ByPixels = Field(default_factory=ByPixels)
    static: StaticFrame = Field(default_factory=StaticFrame)


class Sampled(PluginParams):
    sample_fps: float = Field(default=1.0, gt=0, alias="sampleFPS")
    temporal_patch_size: int = Field(default=1, ge=1)


class Strided(PluginParams):
    default_source_fps: float = Field(default=24.0, gt=0, alias="defaultSourceFPS")
    frame_stride: int = Field(default=1, ge=1)


class FrameCount(PluginParams):
    mode: Literal["sampled", "strided"] = "sampled"
    min_frames: int = Field(default=0, ge=0)
    max_frames: int = Field(default=0, ge=0)
    sampled: Sampled = Field(default_factory=Sampled)
    strided: Strided = Field(default_factory=Strided)

    def frames(self) -> Frames:
        return Frames(
            strided=self.mode == "strided",
            sample_fps=self.sampled.sample_fps,
            patch=self.sampled.temporal_patch_size,
            source_fps=self.strided.default_source_fps,
            stride=self.strided.frame_stride,
            least=self.min_frames,
            most=self.max_frames,
        )


class Video(PluginParams):
    """Frames times the tokens of each."""

    default_resolution: Resolution = Field(default_factory=Resolution)
    default_duration: float = Field(default=10.0, gt=0)
    tokens_per_frame: TokensPerFrame = Field(default_factory=TokensPerFrame)
    frames: FrameCount = Field(default_factory=FrameCount)
    max_video_tokens: int = Field(default=0, ge=0)

    def frame(self) -> Pictures:
        each = self.tokens_per_frame
        return Pictures(
            fixed=each.static.num_tokens_per_frame if each.mode == "static" else 0,
            factor=each.dynamic.factor,
            width=self.default_resolution.width,
            height=self.default_resolution.height,
        )


class StaticAudio(PluginParams):
    num_tokens: int = Field(default=1, ge=1)


class ByLength(PluginParams):
    tokens_per_second: float = Field(default=12.5, gt=0)
    overhead_tokens: int = Field(default=14, ge=0)
    bytes_per_second: int = Field(default=16_000, ge=1)


class Audio(PluginParams):
    """By its length, or a fixed number."""

    mode: Literal["dynamic", "static"] = "dynamic"
    default_duration: float = Field(default=10.0, gt=0)
    dynamic: ByLength = Field(default_factory=ByLength)
    static: StaticAudio = Field(default_factory=StaticAudio)
    max_audio_tokens: int = Field(default=0, ge=0)

    def sounds(self) -> Sounds:
        return Sounds(
            fixed=self.static.num_tokens if self.mode == "static" else 0,
            per_second=self.dynamic.tokens_per_second,
            overhead=self.dynamic.overhead_tokens,
            bytes_per_second=self.dynamic.bytes_per_second,
            seconds=self.default_duration,
            most=self.max_audio_tokens,
        )


class EstimateParams(PluginParams):
    """`estimate` of token-producer."""

    image: Image = Field(default_factory=Image)
    video: Video = Field(default_factory=Video)
    audio: Audio = Field(default_factory=Audio)

    def estimate(self) -> Estimate:
        return Estimate(
            images=self.image.pictures(),
            frame=self.video.frame(),
            frames=self.video.frames.frames(),
            seconds=self.video.default_duration,
            most_video=self.video.max_video_tokens,
            sounds=self.audio.sounds(),
        )
