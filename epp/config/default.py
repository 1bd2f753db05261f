"""What is in force where nothing is written."""

from typing import Final

DEFAULT_ORIGIN: Final = "built-in default"

DEFAULT_CONFIG: Final = """\
apiVersion: llm-d.ai/v1alpha1
kind: EndpointPickerConfig
plugins:
- type: approx-prefix-cache-producer
- type: expected-work-scorer
- type: max-score-picker
schedulingProfiles:
- name: default
  plugins:
  - pluginRef: expected-work-scorer
  - pluginRef: max-score-picker
"""
"""The policy without any configuration: expected work in tokens, ties at random."""

DEFAULT_PROFILE: Final = "default"
DEFAULT_PICKER: Final = "max-score-picker"
DEFAULT_DETECTOR: Final = "utilization-detector"
DEFAULT_QUEUE_DETECTOR: Final = "learned-limit-detector"
"""What says that requests have to wait, where flow control is on."""
DEFAULT_PARSERS: Final = (
    "openai-parser",
    "anthropic-parser",
    "vllmhttp-parser",
    "passthrough-parser",
)
DEFAULT_SOURCE: Final = "metrics-data-source"
DEFAULT_EXTRACTOR: Final = "core-metrics-extractor"
"""Types that are added where a configuration leaves a place empty, if the catalogue has them."""
