"""Say whose a request is, by its headers alone, where the client sends no fairness id.

What is said here tells flows apart in the queue, nothing else. Open `agent.py`.
"""
