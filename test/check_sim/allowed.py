"""Where the simulator may differ from vLLM, and why. Everything else fails the check."""

from __future__ import annotations

from check_sim.verdict import Allowed

OF_THE_FRAMEWORK = "the interpreter's and the web framework's own numbers, not the model server's"
CONNECTOR = "a simulator always has a KV connector, and says of a prefill that it was one"
EVERY_ID = "four bytes of UTF-8 are a token, so every 32-bit id is in the vocabulary"
CUT = "a model of noise reaches its limit within the call and makes none; the simulator's are whole"
STOPPED = "an answer ends at the token before a stop text, and takes no step for its tokens"
EMBEDDINGS = "one simulator generates and embeds; a vLLM does one of the two"
UNREAD = "an adapter's folder is not looked into, so it need not be there"
COUNTED_ONCE_USED = "counts of sleep calls and of tool parsers, which the simulator does not keep"

ALLOWED: tuple[Allowed, ...] = (
    Allowed("python_*", OF_THE_FRAMEWORK),
    Allowed("process_*", OF_THE_FRAMEWORK),
    Allowed("http_*", OF_THE_FRAMEWORK),
    Allowed("*: transfer params:.body.kv_transfer_params", CONNECTOR),
    Allowed("*: transfer params:.body.choices[].finish_reason", CONNECTOR, "string=remote_decode"),
    Allowed("chat: tool wanted:.body.choices[].message.tool_calls", CUT),
    Allowed("chat: tool named:.body.choices[].message.tool_calls", CUT),
    Allowed("completions: stop text met in a stream:.body.events", STOPPED),
    Allowed("completions: token id out of range:.*", EVERY_ID),
    Allowed("embeddings of a generating model:.*", EMBEDDINGS),
    Allowed("lora: no such folder:.*", UNREAD),
    Allowed(
        "lora: *loaded:.content-type", "the web framework gives every text a type", "text/plain*"
    ),
    Allowed(
        "chat: message without role:.body.error.param",
        "the path lacks the name of the class that vLLM tried first",
        "string=body.messages.0",
    ),
    Allowed("vllm:sleep_mode_operation*", COUNTED_ONCE_USED, "absent"),
    Allowed("vllm:tool_call_parser_invocations_*", COUNTED_ONCE_USED, "absent"),
)
