"""Words in, token ids out, and answers made of words.

Offline and deterministic: the same text has the same ids in every process, the same seed and
prompt the same answer. It knows no HTTP and no engine. Open `tokenizer.py` first.
"""
