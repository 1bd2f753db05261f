"""Rule out endpoints for every profile of a request, before any of them runs.

A screener that rules out all of them ends the request with 503. Open `rollout.py`.
"""
