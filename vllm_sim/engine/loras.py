"""LoRA slots: which adapters sit on the GPU, which in host memory, and what loading one costs."""

from __future__ import annotations

from collections import OrderedDict


class LoraSlots:
    """`gpu` adapters may run at once, `host` stay in CPU memory; both evict the least recent."""

    def __init__(self, gpu: int, host: int, load_s: float, disk_s: float) -> None:
        self._gpu_slots = gpu
        self._host_slots = host
        self._load_s = load_s
        self._disk_s = disk_s
        self._gpu: OrderedDict[str, None] = OrderedDict()
        self._host: OrderedDict[str, None] = OrderedDict()
        self.running: dict[str, int] = {}

    def allows(self, lora: str | None) -> bool:
        """Whether a request of this adapter may run now beside those that run."""
        return lora is None or lora in self.running or len(self.running) < self._gpu_slots

    def enter(self, lora: str) -> float:
        """Counts a request in; the seconds its adapter needs to load, 0 when it is on the GPU."""
        self.running[lora] = self.running.get(lora, 0) + 1
        cost = self._cost(lora)
        self._touch(self._host, lora, self._host_slots)
        self._touch(self._gpu, lora, self._gpu_slots)
        return cost

    def _cost(self, lora: str) -> float:
        if lora in self._gpu:
            return 0.0
        return self._load_s if lora in self._host else self._disk_s

    def _touch(self, slots: OrderedDict[str, None], lora: str, size: int) -> None:
        slots[lora] = None
        slots.move_to_end(lora)
        while len(slots) > size:
            idle = next((name for name in slots if name not in self.running), None)
            if idle is None:
                return
            del slots[idle]

    def leave(self, lora: str) -> None:
        """Counts a request out; its adapter stays loaded until the slot is needed."""
        left = self.running[lora] - 1
        if left:
            self.running[lora] = left
        else:
            del self.running[lora]

    def drop(self, lora: str) -> None:
        """Forgets an adapter that was unloaded."""
        self._gpu.pop(lora, None)
        self._host.pop(lora, None)
