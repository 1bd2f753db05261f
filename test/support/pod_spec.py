"""What a pod's specification means on this machine: programs, arguments, environment, files.

Pure but for the three objects it may be handed: config maps, secrets and tokens, which the
node agent fetches.
"""

import base64
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

Object = dict[str, Any]
BIN = Path(sys.executable).parent
# A simulator on a developer's machine listens on loopback; in an image it is there for others.
SIMULATOR = [sys.executable, "-m", "vllm_sim", "--host=0.0.0.0"]
VARIABLE = re.compile(r"\$(\$|\(([A-Za-z_][A-Za-z0-9_.-]*)\))")

# The last part of an image's name, without tag and digest -> what its ENTRYPOINT is here.
ENTRY_POINTS: dict[str, list[str]] = {
    "epp": [sys.executable, "-m", "epp", "run"],
    "vllm-sim": SIMULATOR,
    "llm-d-inference-sim": SIMULATOR,
    "envoy": [str(BIN / "envoy")],
    "curl": [],
    "busybox": [],
}


class UnknownImage(Exception):
    """An image that is no program here: the pod shows ErrImagePull."""


class NotHere(Exception):
    """Something the pod refers to does not exist yet: CreateContainerConfigError."""


def entry_point(image: str) -> list[str]:
    """What the image would run. Raises `UnknownImage`."""
    name = image.rpartition("/")[2].partition("@")[0].partition(":")[0]
    try:
        return ENTRY_POINTS[name]
    except KeyError:
        raise UnknownImage(f'image "{image}" is none of {", ".join(ENTRY_POINTS)}') from None


def command_line(container: Object, env: Mapping[str, str]) -> list[str]:
    """`command` replaces the entry point and its arguments, `args` follow either."""
    entry = entry_point(container["image"])
    command = [expand(each, env) for each in container.get("command", ())] or entry
    return [*command, *(expand(each, env) for each in container.get("args", ()))]


def expand(text: str, env: Mapping[str, str]) -> str:
    """`$(NAME)` becomes the variable's value if there is one, `$$` a dollar."""

    def value(match: re.Match[str]) -> str:
        if match[1] == "$":
            return "$"
        return env.get(match[2], match[0])

    return VARIABLE.sub(value, text)


class Sources:
    """Config maps and secrets of a pod's namespace, by kind and name."""

    def __init__(self, objects: Mapping[tuple[str, str], Object]) -> None:
        self._objects = objects

    def values(self, kind: str, name: str, *, optional: bool = False) -> dict[str, bytes]:
        """The object's data. Raises `NotHere`."""
        found = self._objects.get((kind, name))
        if found is None:
            if optional:
                return {}
            raise NotHere(f'{kind.lower()} "{name}" not found')
        plain = {key: value.encode() for key, value in found.get("data", {}).items()}
        if kind == "Secret":
            return {key: base64.b64decode(value) for key, value in plain.items()}
        binary = found.get("binaryData", {})
        return plain | {key: base64.b64decode(value) for key, value in binary.items()}


def references(pod: Object) -> set[tuple[str, str]]:
    """Every config map and secret the pod's specification names, as (kind, name)."""
    found: set[tuple[str, str]] = set()
    for each in walk(pod["spec"]):
        for field, kind in (("configMapKeyRef", "ConfigMap"), ("configMapRef", "ConfigMap")):
            if field in each:
                found.add((kind, each[field]["name"]))
        for field in ("secretKeyRef", "secretRef"):
            if field in each:
                found.add(("Secret", each[field]["name"]))
        if "configMap" in each:
            found.add(("ConfigMap", each["configMap"]["name"]))
        if isinstance(each.get("secret"), dict):
            named = each["secret"]
            found.add(("Secret", named.get("secretName") or named["name"]))
    return found


def walk(value: Any) -> Any:
    if isinstance(value, dict):
        yield value
        value = list(value.values())
    if isinstance(value, list):
        for each in value:
            yield from walk(each)


def environment(pod: Object, container: Object, sources: Sources) -> dict[str, str]:
    """The variables a container asks for, in order, with references resolved."""
    env: dict[str, str] = {}
    for each in container.get("envFrom", ()):
        env |= bulk(each, sources)
    for each in container.get("env", ()):
        if "valueFrom" not in each:
            env[each["name"]] = expand(each.get("value", ""), env)
            continue
        found = referred(each["valueFrom"], pod, container, sources)
        if found is not None:
            env[each["name"]] = found
    return env


def bulk(each: Object, sources: Sources) -> dict[str, str]:
    field, kind = ("configMapRef", "ConfigMap")
    if "secretRef" in each:
        field, kind = ("secretRef", "Secret")
    named = each[field]
    values = sources.values(kind, named["name"], optional=named.get("optional", False))
    return {each.get("prefix", "") + key: value.decode() for key, value in values.items()}


def referred(value: Object, pod: Object, container: Object, sources: Sources) -> str | None:
    if "fieldRef" in value:
        return field_of(pod, value["fieldRef"]["fieldPath"])
    if "resourceFieldRef" in value:
        return resource_of(container, value["resourceFieldRef"]["resource"])
    field, kind = ("configMapKeyRef", "ConfigMap")
    if "secretKeyRef" in value:
        field, kind = ("secretKeyRef", "Secret")
    named = value[field]
    optional = named.get("optional", False)
    values = sources.values(kind, named["name"], optional=optional)
    if named["key"] in values:
        return values[named["key"]].decode()
    if optional:
        return None
    raise NotHere(f'{kind.lower()} "{named["name"]}" has no key "{named["key"]}"')


def field_of(pod: Object, path: str) -> str:
    """The downward API: `metadata.name`, `status.podIP`, `metadata.labels['app']`..."""
    match = re.fullmatch(r"metadata\.(labels|annotations)(?:\['(.+)'\])?", path)
    if match:
        values = pod["metadata"].get(match[1], {})
        if match[2]:
            return str(values.get(match[2], ""))
        return "".join(f'{key}="{value}"\n' for key, value in sorted(values.items()))
    if path == "status.podIPs":
        return ",".join(each["ip"] for each in pod["status"].get("podIPs", ()))
    value: Any = pod
    for part in path.split("."):
        value = value.get(part, "") if isinstance(value, dict) else ""
    return str(value)


def resource_of(container: Object, name: str) -> str:
    """`limits.cpu` rounds up to whole cores, `limits.memory` is in bytes."""
    section, _, resource = name.partition(".")
    text = container.get("resources", {}).get(section, {}).get(resource, "0")
    number = quantity(str(text))
    return str(-int(-number // 1))


def quantity(text: str) -> float:
    """`500m`, `2`, `1Gi` as a number."""
    units = {"m": 1e-3, "k": 1e3, "M": 1e6, "G": 1e9, "Ki": 2**10, "Mi": 2**20, "Gi": 2**30}
    match = re.fullmatch(r"([0-9.]+)([A-Za-z]*)", text)
    assert match, f"no quantity: {text}"
    return float(match[1]) * units.get(match[2], 1)


def volume_files(volume: Object, pod: Object, sources: Sources, token: str) -> dict[str, bytes]:
    """Files of a volume by their path in it; empty for an emptyDir. Raises `NotHere`."""
    if "projected" in volume:
        files: dict[str, bytes] = {}
        for each in volume["projected"]["sources"]:
            files |= source_files(each, pod, sources, token)
        return files
    if "emptyDir" in volume:
        return {}
    return source_files(volume, pod, sources, token)


def source_files(each: Object, pod: Object, sources: Sources, token: str) -> dict[str, bytes]:
    if "serviceAccountToken" in each:
        return {each["serviceAccountToken"]["path"]: token.encode()}
    if "downwardAPI" in each:
        items = each["downwardAPI"].get("items", ())
        return {i["path"]: field_of(pod, i["fieldRef"]["fieldPath"]).encode() for i in items}
    if "configMap" in each:
        return picked(each["configMap"], "ConfigMap", sources)
    if "secret" in each:
        return picked(each["secret"], "Secret", sources)
    kind = next((name for name in each if name != "name"), "?")
    raise NotHere(f"this node has no volumes of kind {kind}")


def picked(named: Object, kind: str, sources: Sources) -> dict[str, bytes]:
    name = named.get("secretName") or named["name"]
    values = sources.values(kind, name, optional=named.get("optional", False))
    items = named.get("items")
    if items is None:
        return values
    return {each["path"]: values[each["key"]] for each in items if each["key"] in values}


def token_lifetime(pod: Object) -> tuple[int, str]:
    """Seconds and audience of the pod's projected token; 3600 and the default if none."""
    for each in walk(pod["spec"].get("volumes", [])):
        if "serviceAccountToken" in each:
            wanted = each["serviceAccountToken"]
            return wanted.get("expirationSeconds", 3600), wanted.get("audience", "")
    return 3600, ""
