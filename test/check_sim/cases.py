"""The requests both servers get, in this order. Later ones may lean on what earlier ones did."""

from __future__ import annotations

from typing import Any

from check_sim.exchange import Case

MODEL = "tiny"
MISSING = "no-such-model"
ADAPTER = "adapter-one"
FULL = {"ignore_eos": True, "temperature": 0}
LETTERS = list(range(97, 123))
LONG = {**FULL, "allowed_token_ids": LETTERS}
"""Every answer reaches its limit and is clean text, so that streams have no gaps."""
COMPACT = {str(space): -100 for space in (9, 10, 13, 32)}
"""White space only where a grammar demands it: a model of noise would fill JSON with it."""
JSON = {"content-type": "application/json"}

HELLO = [{"role": "user", "content": "say something"}]
WEATHER = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "the weather of a town",
        "parameters": {
            "type": "object",
            "properties": {"town": {"type": "string", "enum": ["Bern", "Oslo"]}},
            "required": ["town"],
        },
    },
}

CALL = {
    "tools": [WEATHER],
    "max_tokens": 200,
    "ignore_eos": False,
    "allowed_token_ids": None,
    "logit_bias": COMPACT,
}
"""Room for a whole call."""
NAMED = {"type": "function", "function": {"name": "weather"}}


def post(name: str, path: str, body: Any, **more: Any) -> Case:
    return Case(name, "POST", path, body, **more)


def get(name: str, path: str, **more: Any) -> Case:
    return Case(name, "GET", path, **more)


def text(name: str, **fields: Any) -> Case:
    body = {"model": MODEL, "prompt": "once upon a time", "max_tokens": 6, **LONG, **fields}
    return post(f"completions: {name}", "/v1/completions", body)


def chat(name: str, **fields: Any) -> Case:
    body = {"model": MODEL, "messages": HELLO, "max_tokens": 6, **LONG, **fields}
    return post(f"chat: {name}", "/v1/chat/completions", body)


def response(name: str, **fields: Any) -> Case:
    body = {"model": MODEL, "input": "say something", "max_output_tokens": 6, **FULL, **fields}
    return post(f"responses: {name}", "/v1/responses", body)


def message(name: str, **fields: Any) -> Case:
    body = {"model": MODEL, "messages": HELLO, "max_tokens": 6, **fields}
    return post(f"messages: {name}", "/v1/messages", body)


def tokenize(name: str, **fields: Any) -> Case:
    return post(f"tokenize: {name}", "/tokenize", {"model": MODEL, **fields})


USAGE = {"include_usage": True}
CONTINUOUS = {"include_usage": True, "continuous_usage_stats": True}
IDS = list(range(40, 60))

PLAIN = (
    get("models", "/v1/models"),
    get("health", "/health"),
    get("ping", "/ping"),
    post("ping by POST", "/ping", {}),
    get("version", "/version"),
    get("load", "/load"),
    get("metrics", "/metrics"),
    get("event sources", "/kv_event_sources"),
    get("no such path", "/v1/nothing"),
    get("wrong method", "/v1/chat/completions"),
    get("request id echoed", "/version", headers={"X-Request-Id": "r-1"}, kept=("x-request-id",)),
    get("request id made", "/version", kept=("x-request-id",)),
)

COMPLETIONS = (
    text("plain"),
    text("token ids", prompt=IDS),
    text("two texts", prompt=["one", "two"]),
    text("two rows of ids", prompt=[IDS, IDS[:7]]),
    text("n", n=2, temperature=1),
    text("stop text", stop=["\n\n\n"]),
    text("stop text met", stop=["aaa"], allowed_token_ids=[97]),
    text("stop text met in a stream", stop=["aaa"], allowed_token_ids=[97], stream=True),
    text("token ids returned", return_token_ids=True),
    text("no model"),
    text("cache salt", cache_salt="tenant"),
    text("priority without its policy", priority=3),
    text("transfer params", kv_transfer_params={"do_remote_decode": True}),
    text("logprobs", logprobs=2),
    text("echo", echo=True),
    text("echo and logprobs", echo=True, logprobs=1),
    text("streamed", stream=True),
    text("streamed with usage", stream=True, stream_options=USAGE),
    text("streamed with running usage", stream=True, stream_options=CONTINUOUS),
    text("streamed, n", stream=True, prompt=IDS),
    text("streamed logprobs", stream=True, logprobs=1),
    text("streamed token ids", stream=True, return_token_ids=True),
)

COMPLETION_ERRORS = (
    post("completions: no JSON", "/v1/completions", b"{bad"),
    post("completions: a list", "/v1/completions", []),
    post("completions: empty body", "/v1/completions", b"", headers=JSON),
    post("completions: no prompt", "/v1/completions", {"model": MODEL}),
    text("other content type"),
    text("unknown model", model=MISSING),
    text("model is a number", model=7),
    text("max_tokens is text", max_tokens="many"),
    text("max_tokens negative", max_tokens=-1),
    text("max_tokens zero", max_tokens=0),
    text("max_tokens beyond the model", max_tokens=5000),
    text("max_tokens beyond the room", prompt=[65] * 2040, max_tokens=20),
    text("prompt too long", prompt=[65] * 2100),
    text("prompt empty", prompt=""),
    text("prompt of no ids", prompt=[]),
    text("prompt an object", prompt={}),
    text("token id out of range", prompt=[70_000]),
    text("n zero", n=0),
    text("temperature negative", temperature=-1),
    text("top_p beyond one", top_p=2),
    text("stream options without stream", stream_options=USAGE),
    text("stream is text", stream="perhaps"),
    text("empty cache salt", cache_salt=""),
    text("stop is a number", stop=3),
    text("min_tokens beyond max_tokens", min_tokens=9),
    text("logprobs negative", logprobs=-2),
    text("echo while streaming", echo=True, stream=True),
    text("unknown field", no_such_field=1),
    text("ignore_eos is text", ignore_eos="perhaps"),
)

CHATS = (
    chat("plain"),
    chat("parts", messages=[{"role": "user", "content": [{"type": "text", "text": "hi"}]}]),
    chat("system first", messages=[{"role": "system", "content": "be brief"}, *HELLO]),
    chat("max_completion_tokens", max_completion_tokens=4),
    chat("n", n=2, temperature=1),
    chat("stop text met", stop=["aaa"], allowed_token_ids=[97]),
    chat("token ids returned", return_token_ids=True),
    chat("logprobs", logprobs=True, top_logprobs=2),
    chat("cache salt", cache_salt="tenant"),
    chat("transfer params", kv_transfer_params={"do_remote_decode": True}),
    chat("streamed", stream=True),
    chat("streamed with usage", stream=True, stream_options=USAGE),
    chat("streamed with running usage", stream=True, stream_options=CONTINUOUS),
    chat("streamed logprobs", stream=True, logprobs=True, top_logprobs=1),
    chat("streamed token ids", stream=True, return_token_ids=True),
    chat("tool wanted", **CALL, tool_choice="required"),
    chat("tool named", **CALL, tool_choice=NAMED),
    chat("tool named in a stream", **CALL, tool_choice=NAMED, stream=True),
    chat("tools, none wanted", tools=[WEATHER], tool_choice="none"),
)

CHAT_ERRORS = (
    post("chat: no JSON", "/v1/chat/completions", b"]"),
    post("chat: no messages", "/v1/chat/completions", {"model": MODEL}),
    chat("empty messages", messages=[]),
    chat("messages is text", messages="hi"),
    chat("message without role", messages=[{"content": "hi"}]),
    chat("unknown model", model=MISSING),
    chat("max_tokens is text", max_tokens="many"),
    chat("max_tokens beyond the model", max_tokens=5000),
    chat("conversation too long", messages=[{"role": "user", "content": "x" * 12_000}]),
    chat("stream options without stream", stream_options=USAGE),
    chat("empty cache salt", cache_salt=""),
    chat("priority without its policy", priority=3),
    chat("automatic tools", tools=[WEATHER], tool_choice="auto"),
    chat("tool choice without tools", tool_choice="required"),
    chat("tool choice of another tool", tools=[WEATHER],
         tool_choice={"type": "function", "function": {"name": "other"}}),
    chat("top_logprobs without logprobs", top_logprobs=2),
    chat("n zero", n=0),
)  # fmt: skip

RESPONSES = (
    response("plain"),
    response("messages", input=HELLO),
    response("instructions", instructions="be brief"),
    response("streamed", stream=True),
    response("unknown model", model=MISSING),
    response("no input", input=None),
    response("input is a number", input=4),
    response("max_output_tokens zero", max_output_tokens=0),
)

MESSAGES = (
    message("plain"),
    message("system", system="be brief"),
    message("streamed", stream=True),
    message("unknown model", model=MISSING),
    message("no max_tokens", max_tokens=None),
    message("empty messages", messages=[]),
    post("messages: no JSON", "/v1/messages", b"{"),
    post(
        "messages: tokens counted",
        "/v1/messages/count_tokens",
        {"model": MODEL, "messages": HELLO, "max_tokens": 5},
    ),
)

TOKENS = (
    tokenize("text", prompt="once"),
    tokenize("text with strings", prompt="once", return_token_strs=True),
    tokenize("messages", messages=HELLO),
    tokenize("unknown model", model=MISSING, prompt="a"),
    tokenize("nothing"),
    post("detokenize", "/detokenize", {"model": MODEL, "tokens": [65, 66]}),
    post("detokenize: nothing", "/detokenize", {"model": MODEL}),
    post("detokenize: text", "/detokenize", {"model": MODEL, "tokens": "AB"}),
    post("render: completion", "/v1/completions/render",
         {"model": MODEL, "prompt": "once", "max_tokens": 4}),
    post("render: chat", "/v1/chat/completions/render",
         {"model": MODEL, "messages": HELLO, "max_tokens": 4}),
    post("render: message", "/v1/messages/render",
         {"model": MODEL, "messages": HELLO, "max_tokens": 4}),
    post("render: response", "/v1/responses/render", {"model": MODEL, "input": "once"}),
    post("render: unknown model", "/v1/chat/completions/render",
         {"model": MISSING, "messages": HELLO}),
    post("generate", "/inference/v1/generate",
         {"model": MODEL, "token_ids": IDS,
          "sampling_params": {"max_tokens": 4, "ignore_eos": True}}),
    post("generate: streamed", "/inference/v1/generate",
         {"model": MODEL, "token_ids": IDS, "stream": True,
          "sampling_params": {"max_tokens": 4, "ignore_eos": True}}),
    post("generate: no ids", "/inference/v1/generate", {"model": MODEL, "sampling_params": {}}),
    post("embeddings of a generating model", "/v1/embeddings", {"model": MODEL, "input": "a"}),
)  # fmt: skip


def lora_cases(folder: str) -> tuple[Case, ...]:
    """Loading, using and unloading the adapter that lies in the folder."""
    load, unload = "/v1/load_lora_adapter", "/v1/unload_lora_adapter"
    named = {"lora_name": ADAPTER, "lora_path": folder}
    return (
        post("lora: loaded", load, named),
        post("lora: loaded again", load, named),
        post("lora: no name", load, {"lora_path": folder}),
        post("lora: empty name", load, {"lora_name": "", "lora_path": ""}),
        post("lora: no such folder", load, {"lora_name": "b", "lora_path": "/nowhere/b"}),
        get("lora: models", "/v1/models"),
        text("of an adapter", model=ADAPTER),
        chat("of an adapter", model=ADAPTER),
        post("lora: unloaded", unload, {"lora_name": ADAPTER}),
        post("lora: unloaded again", unload, {"lora_name": ADAPTER}),
        post("lora: unloaded without a name", unload, {}),
    )


POWER = (
    get("asleep?", "/is_sleeping"),
    post("sleep: level unknown", "/sleep?level=9", {}),
    post("sleep: level no number", "/sleep?level=deep", {}),
    post("sleep: mode unknown", "/sleep?level=0&mode=dream", {}),
    post("sleep: level 0", "/sleep?level=0&mode=keep", {}),
    get("asleep at level 0", "/is_sleeping"),
    post("wake: tag unknown", "/wake_up?tags=nothing", {}),
    post("wake", "/wake_up", {}),
    get("awake", "/is_sleeping"),
    post("cache reset", "/reset_prefix_cache", {}),
    get("paused?", "/is_paused"),
    post("pause", "/pause", {}),
    post("resume", "/resume", {}),
    post("requests aborted", "/abort_requests", {"request_ids": []}),
)


def all_cases(adapter_folder: str) -> tuple[Case, ...]:
    """Every case in the order it is sent."""
    return (
        *PLAIN,
        *COMPLETIONS,
        *COMPLETION_ERRORS,
        *CHATS,
        *CHAT_ERRORS,
        *RESPONSES,
        *MESSAGES,
        *TOKENS,
        *lora_cases(adapter_folder),
        *POWER,
    )
