"""Writes the definitions in `bases/` from the models beside this file.

`python config/crd/generate.py` writes them, `--check` fails where one is stale.
"""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

import models  # noqa: E402

Schema = dict[str, Any]
HEADER = "# Written by config/crd/generate.py; change models.py and run `make generate`.\n"
# Words of JSON schema that a structural schema of the API server has no use for.
DROPPED = ("title", "$defs", "propertyNames", "additionalProperties")
APPROVED = "https://github.com/kubernetes-sigs/gateway-api-inference-extension/pull/1173"
OBJECT_META = {
    "apiVersion": {"type": "string", "description": "The version of this form of the object."},
    "kind": {"type": "string", "description": "What the object is."},
    "metadata": {"type": "object"},
}


@dataclass(frozen=True, slots=True)
class Definition:
    """One kind in one group."""

    group: str
    version: str
    model: type[models.Model]
    short: tuple[str, ...] = ()
    columns: tuple[Schema, ...] = ()

    @property
    def kind(self) -> str:
        return self.model.__name__

    @property
    def plural(self) -> str:
        return f"{self.kind.lower()}s"

    @property
    def path(self) -> Path:
        return HERE / "bases" / f"{self.group}_{self.plural}.yaml"


def definitions() -> list[Definition]:
    """All of them: the pool in its one group, the others in the new group and the older."""
    objective = (models.POOL_COLUMN, models.PRIORITY_COLUMN, models.AGE_COLUMN)
    rewrite = (models.POOL_COLUMN, models.AGE_COLUMN)
    found = [
        Definition("inference.networking.k8s.io", "v1", models.InferencePool, ("infpool",)),
    ]
    for group in ("llm-d.ai", "inference.networking.x-k8s.io"):
        found += [
            Definition(group, "v1alpha2", models.InferenceObjective, columns=objective),
            Definition(group, "v1alpha2", models.InferenceModelRewrite, columns=rewrite),
        ]
    return found


def document(definition: Definition) -> Schema:
    """The CustomResourceDefinition."""
    names = {
        "kind": definition.kind,
        "listKind": f"{definition.kind}List",
        "plural": definition.plural,
        "singular": definition.kind.lower(),
    }
    if definition.short:
        names["shortNames"] = list(definition.short)
    spec = {
        "group": definition.group,
        "names": names,
        "scope": "Namespaced",
        "versions": [version(definition)],
    }
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {
            "name": f"{definition.plural}.{definition.group}",
            "annotations": {"api-approved.kubernetes.io": approval(definition.group)},
        },
        "spec": spec,
    }


def approval(group: str) -> str:
    """Groups that end in `.k8s.io` must say who has approved of the API."""
    return APPROVED if group.endswith(".k8s.io") else "unapproved, experimental-only"


def version(definition: Definition) -> Schema:
    columns = {"additionalPrinterColumns": list(definition.columns)} if definition.columns else {}
    return {
        "name": definition.version,
        "served": True,
        "storage": True,
        "subresources": {"status": {}},
        **columns,
        "schema": {"openAPIV3Schema": schema_of(definition.model)},
    }


def schema_of(model: type[models.Model]) -> Schema:
    """The structural schema of an object: no references, no words the server refuses."""
    raw = model.model_json_schema(by_alias=True)
    schema = structural(raw, raw.get("$defs", {}))
    schema["properties"] = {**OBJECT_META, **schema["properties"]}
    return schema


def structural(schema: Schema, named: dict[str, Schema]) -> Schema:
    if "$ref" in schema:
        target = named[schema["$ref"].rpartition("/")[2]]
        beside = {key: value for key, value in schema.items() if key != "$ref"}
        return structural({**target, **beside}, named)
    kept = {key: value for key, value in schema.items() if key not in DROPPED}
    if kept.get("default", "") is None:
        del kept["default"]
    if "const" in kept:
        kept |= {"enum": [kept.pop("const")], "type": "string"}
    if "items" in kept:
        kept["items"] = structural(kept["items"], named)
    if "properties" in kept:
        kept["properties"] = {
            name: structural(each, named) for name, each in kept["properties"].items()
        }
    elif isinstance(schema.get("additionalProperties"), dict):
        kept["additionalProperties"] = structural(schema["additionalProperties"], named)
    return kept


def text_of(definition: Definition) -> str:
    body = yaml.safe_dump(document(definition), sort_keys=False, width=100, allow_unicode=True)
    return f"{HEADER}{body}"


def main(arguments: list[str]) -> int:
    stale = []
    for definition in definitions():
        text = text_of(definition)
        held = definition.path.read_text() if definition.path.exists() else ""
        if held != text:
            stale.append(str(definition.path.relative_to(HERE)))
            if "--check" not in arguments:
                definition.path.parent.mkdir(exist_ok=True)
                definition.path.write_text(text)
    if stale and "--check" in arguments:
        print(f"stale: {', '.join(stale)}; run `make generate`", file=sys.stderr)  # noqa: T201
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
