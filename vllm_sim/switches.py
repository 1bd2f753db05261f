"""Every flag in tables: the Go simulator's names, vLLM's where the engine has more to set."""

from __future__ import annotations

from typing import Any

import click

from vllm_sim.flags import Duration, GoBool

IGNORED = (
    "mm-processor-kwargs",
    "ec-transfer-config",
    "tensor-parallel-size",
    "render-url",
    "render-timeout",
    "mm-render-timeout",
    "gpu-memory-utilization",
    "dtype",
    "load-format",
    "max-lora-rank",
    "prefix-caching-hash-algo",
    "tool-call-parser",
    "tool-call-extra-call-probability",
    "image-emission-rate",
    "time-to-generate-image",
    "time-to-generate-image-std-dev",
    "tokenizers-cache-dir",
    "zmq-max-connect-attempts",
)
BARE = (
    "force-dummy-tokenizer",
    "enforce-eager",
    "trust-remote-code",
    "enable-chunked-prefill",
    "enable-lora",
    "enable-prompt-tokens-details",
    "enable-scale-out",
    "enable-auto-tool-choice",
    "skip-tool-validation",
    "mm-encoder-only",
    "strict",
)
"""Accepted without effect; those of the second row need no value."""
NO_DATASET = (
    "vllm-sim reads no dataset; --mode echo makes answers that the client chooses, --seed and "
    "--output-law draw them"
)
REFUSED = {
    "dataset-path": NO_DATASET,
    "dataset-url": NO_DATASET,
    "dataset-table-name": NO_DATASET,
    "dataset-in-memory": NO_DATASET,
    "omni": "vllm-sim makes no images; leave it out, chat answers are text",
}
"""Flags that would change the answers in a way that is not there, and what to use instead."""
REFUSED_BARE = ("dataset-in-memory", "omni")

Option = tuple[str, Any, Any, str]
"""Flag, type, default, help."""
TIME, BOOL = Duration(), GoBool()

GENERAL: tuple[Option, ...] = (
    ("model", str, "sim-model", "base model name; default: SIM_MODEL"),
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
    ("block-size", click.INT, 16, "tokens in a block: 1, 8, 16, 32, 64, 128 or 256"),
    ("hash-seed", str, "", "seed of block hashes; default: PYTHONHASHSEED"),
    ("global-cache-hit-threshold", click.FloatRange(0, 1), 0.0, "below it: cache_threshold"),
    ("kv-lease", TIME, 480.0, "time a held prefill keeps its blocks"),
    ("zmq-endpoint", str, "", "where KV events go; a * binds, otherwise it dials"),
    ("zmq-topic", str, "", "event topic; default kv@host:port@model"),
    ("kv-events-config", str, "", "vLLM's JSON instead of the flags above"),
    ("kv-events-replay-endpoint", str, "", "ROUTER socket for replay"),
    ("kv-events-replay-queue-size", click.IntRange(min=1), 10_000, "batches kept for replay"),
    ("use-vllm-map-event-format", BOOL, None, "force maps (true) or arrays (false)"),
    ("kv-transfer-config", str, "", "vLLM's JSON; a NIXL connector shows its counters"),
    ("event-batch-size", click.IntRange(min=1), 16, "accepted; a batch is what one step made"),
)
LORAS: tuple[Option, ...] = (
    ("max-loras", click.IntRange(min=1), 1, "adapters that run at once"),
    ("max-cpu-loras", click.IntRange(min=0), 0, "adapters kept in host memory"),
)
TOOLS: tuple[Option, ...] = (
    ("min-tool-call-integer-param", int, 0, "least integer in a tool call's arguments"),
    ("max-tool-call-integer-param", int, 100, "greatest integer"),
    ("min-tool-call-number-param", float, 0.0, "least number"),
    ("max-tool-call-number-param", float, 100.0, "greatest number"),
    ("min-tool-call-array-param-length", click.IntRange(min=0), 1, "least length of an array"),
    ("max-tool-call-array-param-length", click.IntRange(min=0), 5, "greatest length"),
    ("tool-call-not-required-param-probability", click.IntRange(0, 100), 100,
     "per cent of optional parameters that are given"),
    ("object-tool-call-not-required-field-probability", click.IntRange(0, 100), 100,
     "the same for fields of objects among the parameters"),
)  # fmt: skip
SERVING: tuple[Option, ...] = (
    ("ssl-certfile", str, "", "PEM certificate; the server then speaks TLS"),
    ("ssl-keyfile", str, "", "its key"),
    ("self-signed-certs", BOOL, False, "TLS with a certificate made at the start"),
    ("fake-metrics", str, "", "JSON of what /metrics shows instead of the truth"),
    ("fake-metrics-refresh-interval", TIME, 0.1, "how often functions in it are computed"),
    ("enable-sleep-mode", BOOL, None, "the doors of sleep; open unless false"),
    ("strict-doors", BOOL, False, "close the doors that vLLM closes by default"),
)
FAILURES: tuple[Option, ...] = (
    ("failure-injection-rate", click.IntRange(0, 100), 0, "per cent of requests that fail"),
    ("data-parallel-size", click.IntRange(1, 8), 1, "ranks; rank i listens on port + i"),
    (
        "data-parallel-rank",
        click.IntRange(min=-1),
        -1,
        "the rank of a process that is one of several",
    ),
)


TABLES = (*GENERAL, *LATENCY, *CACHE, *LORAS, *TOOLS, *SERVING, *FAILURES)
LISTS = {
    "served-model-name": "names the model answers to",
    "lora-modules": "JSON with name and path, or name=path",
    "failure-types": "kinds of injected failures",
}
ENVIRONMENT = {"model": "SIM_MODEL", "hash-seed": "PYTHONHASHSEED"}
"""Variables that count where the flag is not on the command line."""
