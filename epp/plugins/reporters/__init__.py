"""Plugins that tell the gateway what a response came to, in its dynamic metadata.

They need to see the response's body, and may change nothing of it. Open `request_attribute.py`.
"""
