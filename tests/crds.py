"""Objects against the published CustomResourceDefinitions of JobSet, Kueue and Trainer, by hand: the files are not included.

python -m tests.crds FOLDER [FILE…]      FOLDER holds CRDs as YAML, FILEs objects (default: ours)

Unknown fields are errors, as for `kubectl create --validate=strict`. Rules in CEL are not evaluated.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import jsonschema
import yaml

REPOSITORY = Path(__file__).parents[1]
Kind = tuple[str, str]  # apiVersion, kind


def main(arguments: Sequence[str]) -> int:
    folder, *files = map(Path, arguments)
    schemas = dict(crd_schemas(folder))
    ours = [REPOSITORY / place for place in ("tests/golden/kubernetes", "k8s/examples", "k8s/trainjob")]
    paths = files or sorted(path for place in ours for path in place.rglob("*.yaml"))
    wrong = 0
    for path in paths:
        for obj in yaml.safe_load_all(path.read_text(encoding="utf-8")):
            if obj is None or (schema := schemas.get((obj["apiVersion"], obj["kind"]))) is None:
                continue
            mistakes = [str(mistake) for mistake in mistakes_of(obj, schema)]
            wrong += bool(mistakes)
            print(f"{path.name}: {obj['kind']} {obj['metadata']['name']}: {'; '.join(mistakes) or 'valid'}")  # noqa: T201
    return int(wrong > 0)


def crd_schemas(folder: Path) -> Iterator[tuple[Kind, dict[str, Any]]]:
    """Each served version's schema, strict."""
    for path in sorted(folder.glob("*.yaml")):
        for crd in yaml.safe_load_all(path.read_text(encoding="utf-8")):
            if crd is None or crd["kind"] != "CustomResourceDefinition":
                continue
            spec = crd["spec"]
            for version in spec["versions"]:
                kind = (f"{spec['group']}/{version['name']}", spec["names"]["kind"])
                schema = strict(version["schema"]["openAPIV3Schema"])
                schema["properties"]["metadata"] = {"type": "object"}  # the API server's own, not the CRD's
                yield kind, schema


def strict(schema: Any) -> Any:
    """An OpenAPI schema of a CRD as a JSON schema in which an object has no field that is not named."""
    if isinstance(schema, list):
        return [strict(one) for one in schema]
    if not isinstance(schema, Mapping):
        return schema
    made = {key: strict(value) for key, value in schema.items()}
    has_fields = isinstance(made.get("properties"), Mapping)
    if has_fields and not schema.get("x-kubernetes-preserve-unknown-fields"):
        made.setdefault("additionalProperties", False)
    if schema.get("x-kubernetes-int-or-string"):
        made.pop("type", None)
        made["anyOf"] = [{"type": "integer"}, {"type": "string"}]
    if schema.get("nullable"):
        made["type"] = [made["type"], "null"]
    return made


def mistakes_of(obj: Mapping[str, Any], schema: Mapping[str, Any]) -> Iterator[str]:
    for error in jsonschema.Draft7Validator(schema).iter_errors(obj):
        yield f"{'.'.join(map(str, error.absolute_path)) or '.'}: {error.message}"


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    sys.exit(main(sys.argv[1:]))
