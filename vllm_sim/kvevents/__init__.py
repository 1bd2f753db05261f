"""KV events as vLLM publishes them over ZMQ.

`encode.py` makes the bytes for each version, `publisher.py` numbers, sends and replays them. It
knows no HTTP. Open `encode.py` first.
"""
