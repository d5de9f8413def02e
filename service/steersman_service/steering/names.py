"""What a control is about, in words for people."""

from steersman.v1.control_pb2 import Control, FeatureRef
from steersman_service.bundle.catalogue import CLUSTERS, Catalogue
from steersman_service.bundle.older import OlderBundles


def display_name(control: Control, version: str, catalogue: Catalogue, older: OlderBundles) -> str:
    """Of a sound control; `version` is that of the served bundle."""
    match control.WhichOneof("target"):
        case "concept":
            return catalogue.concepts[catalogue.concept_rows[control.concept]].display_name
        case "feature":
            return _of_feature(control.feature, version, catalogue, older)
        case "attribute":
            name, value = control.attribute.name, control.attribute.value
            return value if name == CLUSTERS else f"{name}: {value}" if value else name
        case "items":
            count = len(set(control.items.item_ids))
            return f"{count} item" if count == 1 else f"{count} items"
        case _:
            return f'"{control.words}"'


def _of_feature(feature: FeatureRef, version: str, catalogue: Catalogue, older: OlderBundles) -> str:
    label = catalogue.labels_elsewhere.get((feature.bundle_version, feature.id), "")
    if feature.bundle_version == version:
        label = catalogue.labels[feature.id]
    elif not label and (old := older.find(feature.bundle_version)) and feature.id < len(old.labels):
        label = old.labels[feature.id]
    return label or f"feature {feature.id}"
