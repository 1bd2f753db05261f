"""Bodies of one API each become a `ParsedBody`: what is asked, of which model, with which prompt.

A parser decodes only the fields the picker needs and never changes a body. What makes the engine
run no prompt (counting, rendering) is read without prompts. OpenAI bodies
themselves are read in `epp/request/openai.py`.
"""
