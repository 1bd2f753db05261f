"""Names for the one rule by which requests are taken back (`epp.admission.eviction` has it).

Configurations may name who may be taken back and who goes first; there is nothing to choose.
"""
