"""Which model names this server answers to: the base model's and those of loaded adapters."""

from __future__ import annotations

from time import time
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from vllm_sim.options import LoraModule
from vllm_sim.server.errors import ApiError, malformed, unknown_model

if TYPE_CHECKING:
    from collections.abc import Iterable

PERMISSION = {
    "allow_create_engine": False,
    "allow_sampling": True,
    "allow_logprobs": True,
    "allow_search_indices": False,
    "allow_view": True,
    "allow_fine_tuning": False,
    "organization": "*",
    "group": None,
    "is_blocking": False,
}


class Models:
    """The names, in the order vLLM lists them."""

    def __init__(
        self, names: tuple[str, ...], root: str, loras: Iterable[LoraModule], model_len: int
    ) -> None:
        self.names = names
        self._root = root
        self._model_len = model_len
        self._created = int(time())
        self.loras: dict[str, LoraModule] = {}
        self.numbers: dict[str, int] = {}
        self._serial = 0
        for lora in loras:
            self._add(lora)

    def _add(self, lora: LoraModule) -> None:
        """Adapters are numbered from 1 in the order they come; a number is not used again."""
        if lora.name not in self.numbers:
            self._serial += 1
            self.numbers[lora.name] = self._serial
        self.loras[lora.name] = lora

    def path_of(self, name: str | None) -> str:
        """Where the adapter's weights would lie, empty for the base model."""
        return self.loras[name].path if name in self.loras else ""

    def resolve(self, name: object) -> str | None:
        """The adapter of that name, None for the base model; ApiError 404 for neither."""
        if name is None or name in self.names or name == "":
            return None
        if not isinstance(name, str):
            raise malformed("model must be a string", "model")
        if name not in self.loras:
            raise unknown_model(name)
        return name

    def load(self, body: dict[str, Any]) -> str:
        """Adds the adapter that /v1/load_lora_adapter names; its folder is not looked into."""
        name, path = _required(body, "lora_name"), _required(body, "lora_path")
        if not name or not path:
            raise _refused("Both 'lora_name' and 'lora_path' must be provided.")
        if name in self.loras and not body.get("load_inplace"):
            raise _refused(
                f"The lora adapter '{name}' has already been loaded. If you want to load the "
                "adapter in place, set 'load_inplace' to True."
            )
        self._add(LoraModule(name, path, self.names[0]))
        return f"Success: LoRA adapter '{name}' added successfully."

    def unload(self, body: dict[str, Any]) -> str:
        """Removes the adapter that /v1/unload_lora_adapter names."""
        name = _required(body, "lora_name")
        if not name:
            raise _refused("'lora_name' needs to be provided to unload a LoRA adapter.")
        if name not in self.loras:
            raise ApiError(404, f"The lora adapter '{name}' cannot be found.")
        del self.loras[name], self.numbers[name]
        return f"Success: LoRA adapter '{name}' removed successfully."

    def listing(self) -> dict[str, Any]:
        """The body of GET /v1/models."""
        base = [self._card(name, self._root, None, self._model_len) for name in self.names]
        adapters = [
            self._card(lora.name, lora.path, lora.base_model_name or self.names[0], None)
            for lora in self.loras.values()
        ]
        return {"object": "list", "data": [*base, *adapters]}

    def _card(self, name: str, root: str, parent: str | None, length: int | None) -> dict[str, Any]:
        return {
            "id": name,
            "object": "model",
            "created": self._created,
            "owned_by": "vllm",
            "root": root,
            "parent": parent,
            "max_model_len": length,
            "permission": [self._permission()],
        }

    def _permission(self) -> dict[str, Any]:
        return {
            "id": f"modelperm-{uuid4().hex[:16]}",
            "object": "model_permission",
            "created": self._created,
            **PERMISSION,
        }


def _required(body: dict[str, Any], field: str) -> str:
    value = body.get(field)
    if not isinstance(value, str):
        raise malformed(f"{field} must be a string", field)
    return value


def _refused(message: str) -> ApiError:
    return ApiError(400, message, kind="InvalidUserInput")
