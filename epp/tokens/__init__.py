"""What a prompt is made of: token ids where a client gave them, else bytes, cut into blocks.

Turns prompts into chained block keys; asks no endpoint and keeps no state between requests.
Open `blocks.py` first.
"""
