"""Compiled from `proto/` by `make generate`; nothing here is written by hand."""
