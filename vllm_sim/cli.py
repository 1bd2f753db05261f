"""`vllm-sim`: the Go simulator's flags, vLLM's where the engine has more to set."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any

import click

from vllm_sim.flags import Duration, GoBool, GoCommand

if TYPE_CHECKING:
    from collections.abc import Callable

    from vllm_sim.engine import Pacing
    from vllm_sim.options import EventOptions, LoraModule, SimOptions

IGNORED = (
    "mm-processor-kwargs",
    "ec-transfer-config",
    "enforce-eager",
    "tensor-parallel-size",
    "render-url",
    "render-timeout",
    "mm-render-timeout",
    "force-dummy-tokenizer",
    "kv-transfer-config",
    "gpu-memory-utilization",
    "dtype",
    "trust-remote-code",
    "enable-chunked-prefill",
    "enable-lora",
    "enable-sleep-mode",
    "load-format",
    "max-lora-rank",
    "prefix-caching-hash-algo",
    "enable-prompt-tokens-details",
    "enable-scale-out",
    "enable-auto-tool-choice",
    "tool-call-parser",
)
BARE = ("force-dummy-tokenizer", "enforce-eager", "trust-remote-code", "enable-chunked-prefill",
        "enable-lora", "enable-sleep-mode", "enable-prompt-tokens-details", "enable-scale-out",
        "enable-auto-tool-choice")  # fmt: skip

Option = tuple[str, Any, Any, str]
"""Flag, type, default, help."""
TIME, BOOL = Duration(), GoBool()

GENERAL: tuple[Option, ...] = (
    ("model", str, "sim-model", "base model name"),
    ("host", str, "127.0.0.1", "address to listen on"),
    ("port", click.IntRange(0, 65535), 8000, "port, 0 for a free one"),
    ("pod-name", str, "", "x-inference-pod; default: POD_NAME or a name from the port"),
    ("namespace", str, "", "x-inference-namespace; default: POD_NAMESPACE or default"),
    ("seed", int, 0, "seed of every draw"),
    ("time-scale", click.FloatRange(min=0, min_open=True), 1.0, "simulated seconds per second"),
    ("vllm-version", str, "0.33.0", "metric and event dialect"),
    ("profile", str, "h100-llama-8b", "replica profile of the engine model"),
    ("mode", click.Choice(["random", "echo"]), "random", "what answers say"),
    ("output-law", click.Choice(["buckets", "exact", "normal", "lognormal"]), "buckets",
     "length of answers whose limit is given"),
    ("output-mean", click.FloatRange(min=1), 40.0, "mean tokens of the normal laws"),
    ("output-std", click.FloatRange(min=0, min_open=True), 20.0, "deviation of the normal laws"),
    ("max-model-len", click.IntRange(min=2), None, "tokens of prompt and answer"),
    ("max-num-seqs", click.IntRange(min=1), None, "requests that run at once"),
    ("max-num-batched-tokens", click.IntRange(min=0), 0, "token budget of a step"),
    ("long-prefill-token-threshold", click.IntRange(min=0), 0, "largest chunk of one prefill"),
    ("scheduler-reserve-full-isl", BOOL, True, "admit only prompts that fit whole"),
    ("scheduling-policy", click.Choice(["fcfs", "priority"]), "fcfs", "order of the queue"),
    ("max-waiting-queue-length", click.IntRange(min=0), None, "beyond it 429; 0: no limit"),
    ("max-num-queued-reqs", click.IntRange(min=0), 0, "beyond it 503; 0: no limit"),
    ("max-num-queued-tokens", click.IntRange(min=0), 0, "beyond it 503; 0: no limit"),
    ("max-request-body-size-mb", click.IntRange(1, 512), 64, "larger bodies get 413"),
    ("startup-duration", TIME, 0.0, "time until ready"),
    ("drain-timeout", TIME, 30.0, "time open requests have after SIGTERM"),
    ("enable-request-id-headers", BOOL, False, "echo X-Request-Id"),
    ("default-embedding-dimensions", click.IntRange(min=1), 384, "length of embeddings"),
    ("log-http", BOOL, False, "accepted; requests are never logged"),
)  # fmt: skip
LATENCY: tuple[Option, ...] = (
    ("latency-calculator", click.Choice(["", "constant", "per-token"]), "", "timing of prefill"),
    ("time-to-first-token", TIME, 0.0, "constant time to first token"),
    ("time-to-first-token-std-dev", TIME, 0.0, "its deviation"),
    ("inter-token-latency", TIME, 0.0, "constant time between tokens"),
    ("inter-token-latency-std-dev", TIME, 0.0, "its deviation"),
    ("prefill-overhead", TIME, 0.0, "per-token calculator: constant part"),
    ("prefill-time-per-token", TIME, 0.0, "per-token calculator: for each uncached token"),
    ("prefill-time-std-dev", TIME, 0.0, "its deviation"),
    ("kv-cache-transfer-latency", TIME, 0.0, "constant transfer of a remote prefill"),
    ("kv-cache-transfer-latency-std-dev", TIME, 0.0, "its deviation"),
    ("kv-cache-transfer-time-per-token", TIME, 0.0, "transfer for each token"),
    ("kv-cache-transfer-time-std-dev", TIME, 0.0, "its deviation"),
    ("time-factor-under-load", click.FloatRange(min=1), 1.0, "slowdown when all slots run"),
)
CACHE: tuple[Option, ...] = (
    ("enable-kvcache", BOOL, True, "prefix cache on or off"),
    ("enable-prefix-caching", BOOL, True, "the same under vLLM's name"),
    ("kv-cache-size", click.IntRange(min=0), 0, "blocks; 0: the profile's"),
    ("num-gpu-blocks-override", click.IntRange(min=0), 0, "the same under vLLM's name"),
    ("block-size", click.IntRange(min=1), 16, "tokens in a block"),
    ("hash-seed", str, "", "seed of block hashes; default: PYTHONHASHSEED"),
    ("global-cache-hit-threshold", click.FloatRange(0, 1), 0.0, "below it: cache_threshold"),
    ("kv-lease", TIME, 480.0, "time a held prefill keeps its blocks"),
    ("zmq-endpoint", str, "", "where KV events go; a * binds, otherwise it dials"),
    ("zmq-topic", str, "", "event topic; default kv@host:port@model"),
    ("kv-events-config", str, "", "vLLM's JSON instead of the flags above"),
    ("kv-events-replay-endpoint", str, "", "ROUTER socket for replay"),
    ("kv-events-replay-queue-size", click.IntRange(min=1), 10_000, "batches kept for replay"),
    ("use-vllm-map-event-format", BOOL, None, "force maps (true) or arrays (false)"),
    ("event-batch-size", int, 16, "accepted; a batch is what one step made"),
)
LORAS: tuple[Option, ...] = (
    ("max-loras", click.IntRange(min=1), 1, "adapters that run at once"),
    ("max-cpu-loras", click.IntRange(min=0), 0, "adapters kept in host memory"),
)
FAILURES: tuple[Option, ...] = (
    ("failure-injection-rate", click.IntRange(0, 100), 0, "per cent of requests that fail"),
    ("data-parallel-size", click.IntRange(1, 8), 1, "ranks; rank i listens on port + i"),
    ("data-parallel-rank", int, -1, "the rank of a process that is one of several"),
)


def _flags(command: Callable[..., None]) -> Callable[..., None]:
    for name, kind, default, text in reversed((*GENERAL, *LATENCY, *CACHE, *LORAS, *FAILURES)):
        command = click.option(f"--{name}", type=kind, default=default, help=text)(command)
    for name in IGNORED:
        kind = BOOL if name in BARE else str
        command = click.option(f"--{name}", type=kind, hidden=True, expose_value=False)(command)
    return command


@click.command(cls=GoCommand, context_settings={"help_option_names": ["--help", "-h"]})
@_flags
@click.option("--served-model-name", multiple=True, help="names the model answers to")
@click.option("--lora-modules", multiple=True, help="JSON with name and path, or name=path")
@click.option("--failure-types", multiple=True, help="kinds of injected failures")
def main(**given: Any) -> None:
    """A vLLM server without a GPU.

    Constant latencies when one of the latency flags is given, the engine model otherwise. Prints
    one JSON line when it is ready: {"ready": true, "port": N}.
    """
    try:
        options = options_from(given)
        options.engine_config()
    except ValueError as error:
        raise click.UsageError(str(error)) from error
    from vllm_sim.serve import serve

    try:
        serve(options)
    except OSError as error:
        raise click.ClickException(
            f"cannot listen on {options.host}:{options.port}: {error}"
        ) from error


def options_from(given: dict[str, Any]) -> SimOptions:
    """The options behind parsed flags. ValueError names a flag whose value is wrong."""
    from vllm_sim.metrics.dialect import Version
    from vllm_sim.options import SimOptions
    from vllm_sim.text.answers import AnswerSource

    Version.parse(given["vllm_version"])
    answers = AnswerSource(
        given["seed"], given["output_law"], given["output_mean"], given["output_std"]
    )
    return SimOptions(
        model=os.environ.get("SIM_MODEL") or given["model"]
        if given["model"] == "sim-model"
        else given["model"],
        served_model_names=_listed(given["served_model_name"]),
        host=given["host"],
        port=given["port"],
        pod=given["pod_name"] or os.environ.get("POD_NAME", ""),
        address=os.environ.get("POD_IP", ""),
        namespace=given["namespace"] or os.environ.get("POD_NAMESPACE", "default"),
        seed=given["seed"],
        time_scale=given["time_scale"],
        version=given["vllm_version"],
        profile=given["profile"],
        pacing=_pacing(given),
        mode=given["mode"],
        answers=answers,
        max_model_len=given["max_model_len"],
        max_num_seqs=given["max_num_seqs"],
        max_num_batched_tokens=given["max_num_batched_tokens"],
        long_prefill_token_threshold=given["long_prefill_token_threshold"],
        max_waiting=given["max_waiting_queue_length"],
        max_queued_requests=given["max_num_queued_reqs"],
        max_queued_tokens=given["max_num_queued_tokens"],
        max_body_mb=given["max_request_body_size_mb"],
        policy=given["scheduling_policy"],
        block_size=given["block_size"],
        kv_blocks=given["num_gpu_blocks_override"] or given["kv_cache_size"],
        prefix_caching=given["enable_kvcache"] and given["enable_prefix_caching"],
        reserve_full_isl=given["scheduler_reserve_full_isl"],
        hash_seed=given["hash_seed"] or _hash_seed(),
        lora_modules=_loras(given["lora_modules"]),
        max_loras=given["max_loras"],
        max_cpu_loras=given["max_cpu_loras"],
        request_id_headers=given["enable_request_id_headers"],
        startup_s=given["startup_duration"],
        drain_s=given["drain_timeout"],
        cache_hit_threshold=given["global_cache_hit_threshold"],
        data_parallel_size=given["data_parallel_size"],
        data_parallel_rank=given["data_parallel_rank"],
        embedding_dimensions=given["default_embedding_dimensions"],
        failure_rate=given["failure_injection_rate"],
        failure_types=_failures(given["failure_types"]),
        kv_lease_s=given["kv_lease"],
        events=_events(given),
        log_http=given["log_http"],
    )


def _hash_seed() -> str:
    seed = os.environ.get("PYTHONHASHSEED", "")
    return "" if seed == "random" else seed


def _listed(values: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(name for value in values for name in value.replace(",", " ").split())


def _failures(values: tuple[str, ...]) -> tuple[str, ...]:
    from vllm_sim.server.faults import GO_FAILURES

    kinds = _listed(values)
    for kind in kinds:
        if kind not in GO_FAILURES:
            raise ValueError(f"failure-types: {kind!r} is none of {', '.join(GO_FAILURES)}")
    return kinds


def _pacing(given: dict[str, Any]) -> Pacing | None:
    """Constant latencies when any latency flag says something, None for the engine model."""
    from vllm_sim.engine import Pacing

    pacing = Pacing(
        calculator=given["latency_calculator"],
        ttft=given["time_to_first_token"],
        ttft_std=given["time_to_first_token_std_dev"],
        itl=given["inter_token_latency"],
        itl_std=given["inter_token_latency_std_dev"],
        prefill_overhead=given["prefill_overhead"],
        prefill_per_token=given["prefill_time_per_token"],
        prefill_std=given["prefill_time_std_dev"],
        transfer=given["kv_cache_transfer_latency"],
        transfer_std=given["kv_cache_transfer_latency_std_dev"],
        transfer_per_token=given["kv_cache_transfer_time_per_token"],
        transfer_per_token_std=given["kv_cache_transfer_time_std_dev"],
        load_factor=given["time_factor_under_load"],
    )
    return None if pacing == Pacing() else pacing


def _loras(values: tuple[str, ...]) -> tuple[LoraModule, ...]:
    from vllm_sim.options import LoraModule

    modules = []
    for value in values:
        for row in _lora_rows(value):
            if not isinstance(row, dict) or not isinstance(row.get("name"), str):
                raise ValueError('lora-modules must be JSON like {"name": "a", "path": "/a"}')
            base = str(row.get("base_model_name") or "")
            modules.append(LoraModule(row["name"], str(row.get("path") or ""), base))
    return tuple(modules)


def _lora_rows(value: str) -> list[Any]:
    if not value.lstrip().startswith(("{", "[")):
        name, _, path = value.partition("=")
        return [{"name": name, "path": path}]
    try:
        rows = json.loads(value)
    except ValueError:
        raise ValueError("lora-modules is no JSON") from None
    return rows if isinstance(rows, list) else [rows]


def _events(given: dict[str, Any]) -> EventOptions:
    from vllm_sim.options import EventOptions

    text = given["kv_events_config"]
    if not text:
        return EventOptions(
            endpoint=given["zmq_endpoint"],
            topic=given["zmq_topic"],
            replay_endpoint=given["kv_events_replay_endpoint"],
            buffer_steps=given["kv_events_replay_queue_size"],
            map_form=given["use_vllm_map_event_format"],
            int_hashes=_int_hashes(),
        )
    try:
        config = json.loads(text)
    except ValueError:
        raise ValueError("kv-events-config is no JSON") from None
    if not isinstance(config, dict):
        raise ValueError("kv-events-config must be a JSON object")
    on = config.get("enable_kv_cache_events") and config.get("publisher") == "zmq"
    return EventOptions(
        endpoint=config.get("endpoint", "tcp://*:5557") if on else "",
        topic=config.get("topic") or "",
        replay_endpoint=config.get("replay_endpoint") or "",
        buffer_steps=config.get("buffer_steps", 10_000),
        map_form=given["use_vllm_map_event_format"],
        int_hashes=_int_hashes(),
    )


def _int_hashes() -> bool:
    return os.environ.get("VLLM_KV_EVENTS_USE_INT_BLOCK_HASHES", "1") != "0"
