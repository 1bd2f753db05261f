"""The cluster: what it says of pools, pods, objectives and rewrites, and who of several leads.

Pure cores know what to do next (`reflector.py`, `lease.py`) and what objects mean (`endpoints.py`,
`objectives.py`, `rewrites.py`); thin loops around them call the API server. Nothing here decides
where a request goes. Open `reflector.py` first, then `follow.py`. Only `client.py` knows the
Kubernetes client library, and it is imported only when a pool is named.
"""
