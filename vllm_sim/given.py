"""From parsed flags to `SimOptions`; every ValueError names the flag that is wrong."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vllm_sim.engine import Pacing
    from vllm_sim.metrics.fake import FakeMetrics
    from vllm_sim.options import (
        Doors,
        EventOptions,
        LoraModule,
        SimOptions,
        ToolLaw,
        TransportOptions,
    )

BLOCK_SIZES = (1, 8, 16, 32, 64, 128, 256)
MAX_PORT = 65_535
BUFFER_STEPS = 10_000


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
        model=given["model"],
        served_model_names=_listed(given["served_model_name"]),
        host=given["host"],
        port=_ports(given),
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
        block_size=_block_size(given["block_size"]),
        kv_blocks=given["num_gpu_blocks_override"] or given["kv_cache_size"],
        prefix_caching=given["enable_kvcache"] and given["enable_prefix_caching"],
        reserve_full_isl=given["scheduler_reserve_full_isl"],
        hash_seed="" if given["hash_seed"] == "random" else given["hash_seed"],
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
        tools=_tools(given),
        transport=_transport(given),
        doors=_doors(given),
        nixl=_connector(given["kv_transfer_config"]),
        fakes=_fakes(given),
    )


def _block_size(size: int) -> int:
    if size not in BLOCK_SIZES:
        known = ", ".join(map(str, BLOCK_SIZES))
        raise ValueError(f"block-size must be one of {known}, got {size}")
    return size


def _ports(given: dict[str, Any]) -> int:
    """The first port; those of the other ranks follow it."""
    port: int = given["port"]
    if port + given["data_parallel_size"] - 1 > MAX_PORT:
        raise ValueError(f"port {port}: no room for data-parallel-size ports after it")
    return port


def _tools(given: dict[str, Any]) -> ToolLaw:
    from vllm_sim.options import ToolLaw

    law = ToolLaw(
        integers=(given["min_tool_call_integer_param"], given["max_tool_call_integer_param"]),
        numbers=(given["min_tool_call_number_param"], given["max_tool_call_number_param"]),
        lengths=(
            given["min_tool_call_array_param_length"],
            given["max_tool_call_array_param_length"],
        ),
        parameters=given["tool_call_not_required_param_probability"],
        fields=given["object_tool_call_not_required_field_probability"],
    )
    kinds = {"integer-param": law.integers, "number-param": law.numbers}
    for kind, (least, most) in {**kinds, "array-param-length": law.lengths}.items():
        if least > most:
            raise ValueError(f"min-tool-call-{kind} {least} is above max-tool-call-{kind} {most}")
    return law


def _transport(given: dict[str, Any]) -> TransportOptions:
    from vllm_sim.options import TransportOptions

    transport = TransportOptions(
        given["ssl_certfile"], given["ssl_keyfile"], given["self_signed_certs"]
    )
    if bool(transport.certificate) != bool(transport.key):
        raise ValueError("ssl-certfile and ssl-keyfile must be given together")
    if transport.certificate and transport.self_signed:
        raise ValueError("self-signed-certs and ssl-certfile exclude each other: give one")
    return transport


def _doors(given: dict[str, Any]) -> Doors:
    """What is open: all but what a variable or flag closes; all of it closed if strict."""
    from vllm_sim.options import Doors

    strict, sleep = given["strict_doors"], given["enable_sleep_mode"]
    return Doors(
        dev=_allowed("VLLM_SERVER_DEV_MODE", strict),
        sleep=not strict if sleep is None else sleep,
        loras=_allowed("VLLM_ALLOW_RUNTIME_LORA_UPDATING", strict),
    )


def _allowed(variable: str, strict: bool) -> bool:
    value = os.environ.get(variable, "").strip().lower()
    return not strict if not value else value in ("1", "true")


def _connector(text: str) -> bool:
    """Whether the JSON of kv-transfer-config names a NIXL connector."""
    return "nixl" in str(_object("kv-transfer-config", text).get("kv_connector", "")).lower()


def _object(flag: str, text: str) -> dict[str, Any]:
    """The JSON object behind a flag, empty where the flag is not given."""
    if not text:
        return {}
    try:
        body = json.loads(text)
    except (ValueError, RecursionError):
        raise ValueError(f"{flag} is no JSON") from None
    if not isinstance(body, dict):
        raise ValueError(f"{flag} must be a JSON object")
    return body


def _fakes(given: dict[str, Any]) -> FakeMetrics | None:
    from vllm_sim.metrics.fake import FakeMetrics

    if not given["fake_metrics"]:
        return None
    interval = given["fake_metrics_refresh_interval"]
    if interval <= 0:
        raise ValueError("fake-metrics-refresh-interval must be above 0")
    return FakeMetrics.of(_object("fake-metrics", given["fake_metrics"]), interval)


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
    pacing.check()
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

    if given["kv_events_config"]:
        return _events_of(given)
    return EventOptions(
        endpoint=_endpoint("zmq-endpoint", given["zmq_endpoint"]),
        topic=given["zmq_topic"],
        replay_endpoint=_endpoint("kv-events-replay-endpoint", given["kv_events_replay_endpoint"]),
        buffer_steps=given["kv_events_replay_queue_size"],
        map_form=given["use_vllm_map_event_format"],
        int_hashes=_int_hashes(),
    )


def _events_of(given: dict[str, Any]) -> EventOptions:
    """The settings in vLLM's own JSON."""
    from vllm_sim.options import EventOptions

    flag = "kv-events-config"
    config = _object(flag, given["kv_events_config"])
    publisher = config.get("publisher")
    if publisher not in (None, "null", "zmq"):
        raise ValueError(f"{flag}: publisher must be null or zmq, got {publisher!r}")
    steps = config.get("buffer_steps", BUFFER_STEPS)
    if type(steps) is not int or steps < 1:
        raise ValueError(f"{flag}: buffer_steps must be a number of at least 1")
    on = config.get("enable_kv_cache_events") and publisher == "zmq"
    endpoint = config.get("endpoint", "tcp://*:5557")
    return EventOptions(
        endpoint=_endpoint(f"{flag}: endpoint", endpoint) if on else "",
        topic=_text(f"{flag}: topic", config.get("topic")),
        replay_endpoint=_endpoint(f"{flag}: replay_endpoint", config.get("replay_endpoint")),
        buffer_steps=steps,
        map_form=given["use_vllm_map_event_format"],
        int_hashes=_int_hashes(),
    )


def _text(name: str, value: object) -> str:
    if value is not None and not isinstance(value, str):
        raise ValueError(f"{name} must be a string, got {value!r}")
    return value or ""


def _endpoint(name: str, value: object) -> str:
    """An address ZMQ takes: tcp://host:port, ipc://path or inproc://name; empty for none."""
    endpoint = _text(name, value)
    scheme, _, rest = endpoint.partition("://")
    if not endpoint or (scheme in ("ipc", "inproc") and rest):
        return endpoint
    host, _, port = rest.rpartition(":")
    if scheme != "tcp" or not host:
        raise ValueError(f"{name} must look like tcp://host:port or ipc://path, got {endpoint!r}")
    if port != "*" and not (port.isascii() and port.isdigit() and int(port) <= MAX_PORT):
        raise ValueError(f"{name}: the port must lie between 0 and {MAX_PORT}, got {port!r}")
    return endpoint


def _int_hashes() -> bool:
    return os.environ.get("VLLM_KV_EVENTS_USE_INT_BLOCK_HASHES", "1") != "0"
