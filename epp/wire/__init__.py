"""How Envoy reaches the picker: gRPC in, ext_proc messages turned into questions and answers.

Knows messages and sockets; knows nothing of endpoints, scores or queues: it asks a `RequestPath`.
The protocol is pure (`exchange.py`), the shells around it are thin. Open `exchange.py` first, then
`session.py`; `calls.py` is what every shell offers and every method uses.
"""
