"""A vLLM server without a GPU.

It answers what vLLM answers, with vLLM's timing, cache and metrics, from a model of one replica.
`engine` is the deterministic core and knows neither sockets nor asyncio; `server` puts it on HTTP.
It imports nothing from `epp`. Open `engine/core.py` first, then `server/app.py`.
"""

__version__ = "0.33.0"
