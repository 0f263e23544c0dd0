"""What this installation is made of: every package with version and licence, as a list and as an SBOM (CycloneDX).

Read from the metadata that pip leaves with each package (PyPA core metadata); nothing is asked of a network.
"""

import json
import uuid
from collections.abc import Iterable
from dataclasses import dataclass
from importlib.metadata import Distribution, distributions
from typing import Any
from urllib.parse import quote

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from LungRecoveryLib.errors import MissingDependency

PROJECT = "lungrecovery"
UNSTATED = "not stated"
_LONGEST_NAME = 90  # of a licence; longer entries are its text


@dataclass(frozen=True)
class Package:
    """An installed package: `licence` as it states it itself (`spdx`: as an SPDX expression), the packages that it
    `requires` here, and the `extras` of this project that bring it ("core": it is always needed)."""

    name: str
    version: str
    licence: str
    spdx: bool
    requires: tuple[str, ...]
    extras: tuple[str, ...]

    @property
    def purl(self) -> str:
        """The package URL, its name everywhere (https://github.com/package-url/purl-spec)."""
        return f"pkg:pypi/{self.name}@{quote(self.version, safe='.')}"


def installed_packages() -> list[Package]:
    """This project, first, and every installed package that it or one of its extras needs, by name.

    Raises MissingDependency where the project was not installed by pip, as inside Slicer.
    """
    here = _Installed()
    if PROJECT not in here.packages:
        raise MissingDependency("the list of packages needs the project installed by pip: pip install lungrecovery")
    extras = here.packages[PROJECT].metadata.get_all("Provides-Extra") or []
    reached = {extra: here.reached(PROJECT, extra) for extra in ["", *extras]}
    names = sorted(set().union(*reached.values()), key=lambda name: (name != PROJECT, name))
    packages = []
    for name in names:
        licence, spdx = _licence(here.packages[name])
        requires = here.required(name, frozenset(extras if name == PROJECT else []))
        brought = ("core",) if name in reached[""] else tuple(extra for extra in extras if name in reached[extra])
        direct = tuple(sorted({other for other, _ in requires}))
        packages.append(Package(name, here.packages[name].version, licence, spdx, direct, brought))
    return packages


class _Installed:
    """The installed packages by their canonical names, and what leads to what."""

    def __init__(self) -> None:
        self.packages = {canonicalize_name(p.metadata["Name"]): p for p in distributions()}
        self._lines: dict[str, list[Requirement]] = {}

    def required(self, name: str, extras: frozenset[str]) -> list[tuple[str, frozenset[str]]]:
        """The installed packages, each with its extras, that a package with extras of its own requires on this system;
        what belongs to an extra that is not installed is left out."""
        if name not in self._lines:
            self._lines[name] = [Requirement(line) for line in self.packages[name].requires or []]
        wanted = [
            (canonicalize_name(line.name), frozenset(line.extras))
            for line in self._lines[name]
            if line.marker is None or any(line.marker.evaluate({"extra": extra}) for extra in {"", *extras})
        ]
        return [(other, its_extras) for other, its_extras in wanted if other in self.packages]

    def reached(self, name: str, extra: str) -> set[str]:
        """The names of all packages that a package with an extra needs, its own among them."""
        ends, seen = [(name, frozenset([extra]))], set()
        while ends:
            end = ends.pop()
            if end not in seen:
                seen.add(end)
                ends += self.required(*end)
        return {name for name, _ in seen}


def _licence(package: Distribution) -> tuple[str, bool]:
    """The licence in the package's own words, and whether these are an SPDX expression (PEP 639)."""
    metadata = package.metadata
    expression = metadata.get("License-Expression")
    if expression:
        return expression, True
    classified = [
        line.rpartition("::")[2].strip()
        for line in metadata.get_all("Classifier") or []
        if line.startswith("License ::") and not line.endswith("OSI Approved")
    ]
    stated = (metadata.get("License") or "").strip()
    if stated and "\n" not in stated and len(stated) <= _LONGEST_NAME:
        return stated, False
    return " or ".join(classified) or UNSTATED, False


def sbom(packages: list[Package], models: Iterable[dict[str, Any]] = ()) -> str:
    """The software bill of materials in CycloneDX 1.6 JSON (https://cyclonedx.org/docs/1.6/json).

    `packages` from :func:`installed_packages`; `models` are the cards of shipped weights with their "name". The same
    installation gives the same text.
    """
    project = packages[0]
    references = {package.name: package.purl for package in packages}
    content: dict[str, Any] = {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {"component": {"type": "application", **_component(project)}},
        "components": [
            *({"type": "library", **_component(package)} for package in packages[1:]),
            *(_model(model) for model in models),
        ],
        "dependencies": [
            {"ref": package.purl, "dependsOn": [references[name] for name in package.requires]} for package in packages
        ],
    }
    serial = uuid.uuid5(uuid.NAMESPACE_URL, json.dumps(content, sort_keys=True))
    return json.dumps({"serialNumber": f"urn:uuid:{serial}", **content}, indent=1) + "\n"


def _component(package: Package) -> dict[str, Any]:
    component: dict[str, Any] = {"bom-ref": package.purl, "name": package.name, "version": package.version}
    component["purl"] = package.purl
    if package.spdx:
        component["licenses"] = [{"expression": package.licence}]
    elif package.licence != UNSTATED:
        component["licenses"] = [{"license": {"name": package.licence}}]
    return component


def _model(card: dict[str, Any]) -> dict[str, Any]:
    """A network's weights as a component; they are part of this project and under its licence."""
    return {
        "type": "machine-learning-model",
        "bom-ref": f"weights:{card['name']}",
        "name": card["name"],
        "version": card.get("version", ""),
        "description": f"Trained on: {card.get('data', UNSTATED)}",
        "licenses": [{"expression": "Apache-2.0"}],
        "hashes": [{"alg": "SHA-256", "content": card["sha256"]}],
    }
