"""A release: one bundle with all that handlers derive from it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

from steersman.v1.feature_service_pb2 import Feature
from steersman_service.api.attributes import ItemAttributes
from steersman_service.bundle.bundle import Bundle
from steersman_service.bundle.catalogue import Catalogue
from steersman_service.bundle.item_search import ItemSearch
from steersman_service.bundle.items import Items
from steersman_service.bundle.older import OlderBundles
from steersman_service.bundle.replacement import Replacements
from steersman_service.settings import Settings
from steersman_service.steering.aims import Aims
from steersman_service.steering.controls import ControlParser
from steersman_service.steering.counterparts import Counterparts
from steersman_service.steering.neighbours import Neighbours
from steersman_service.steering.targets import Targets
from steersman_service.steering.words import Words


@dataclass(frozen=True)
class Release:
    """Its parts belong together, and are swapped as one."""

    bundle: Bundle
    items: Items
    catalogue: Catalogue
    controls: ControlParser
    search: ItemSearch
    neighbours: Neighbours
    attributes: ItemAttributes
    counterparts: Counterparts

    @classmethod
    def of(cls, bundle: Bundle, settings: Settings) -> Self:
        """Raises BundleError if the tables of `bundle` do not fit together."""
        items = Items(bundle.items)
        catalogue = Catalogue(bundle, items)
        aims = Aims(bundle, catalogue)
        aims.prepare()
        older, replacements = OlderBundles(bundle, items, aims.counted_M), Replacements(bundle, catalogue)
        targets = Targets(
            aims,
            items,
            Words(aims, items, catalogue),
            older,
            catalogue.labels,
            settings.max_filter_items,
        )
        controls = ControlParser(
            bundle.version,
            catalogue,
            items,
            replacements,
            settings.max_controls,
            settings.max_strength,
            targets,
        )
        neighbours, attributes = Neighbours(aims, catalogue, items), ItemAttributes(bundle.items, items.attributes)
        counterparts = Counterparts(bundle.items_ND, catalogue.labels, aims, older, replacements)
        return cls(bundle, items, catalogue, controls, ItemSearch(items), neighbours, attributes, counterparts)

    def relabel(self, corrected: Mapping[int, Feature], elsewhere: Mapping[tuple[str, int], str]) -> None:
        """See Catalogue.relabel."""
        self.catalogue.relabel(corrected, elsewhere)
        self.controls.forget()

    @property
    def version(self) -> str:
        return self.bundle.version
