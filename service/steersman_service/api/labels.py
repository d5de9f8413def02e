"""Labels that people corrected, laid over those of the served bundle."""

import asyncio
from collections import defaultdict
from collections.abc import Mapping, Sequence

from steersman.v1.feature_service_pb2 import Feature, LabelCorrection
from steersman_service.api.release import Release
from steersman_service.sessions.labels import Corrected, LabelStore

# A correction is seen within this time, by every front end.
POLL_SECONDS = 1.0


class Labels:
    """A correction made on another bundle holds for the counterpart here (steering/counterparts.py), unless one was made on this bundle."""

    def __init__(self, release: Release, store: LabelStore) -> None:
        self._release, self._store = release, store
        self._seen = ""
        self._carried: Mapping[int, Sequence[Corrected]] = {}
        """The features of other bundles whose corrections come to each feature."""
        self._refreshing = asyncio.Lock()

    async def refresh(self) -> None:
        """Takes what was corrected since the last time. Raises StoreUnavailable; labels then stay as they are."""
        async with self._refreshing:
            kept = await self._store.read(self._seen)
            if kept is None:
                return
            # Bundles that are not known yet are read.
            candidates = await asyncio.to_thread(self._candidates, kept.corrections)
            best = {feature: min(each, key=_rank)[1] for feature, each in candidates.items()}
            own = self._release.version
            self._carried = {
                feature: [corrected for corrected, _ in each if corrected.version != own]
                for feature, each in candidates.items()
            }
            elsewhere: dict[tuple[str, int], str] = {
                corrected: each.label for corrected, each in kept.corrections.items() if corrected.version != own
            }
            self._release.relabel(best, elsewhere)
            self._seen = kept.changes

    async def correct(self, feature: int, label: str, author: str) -> None:
        """Raises StoreUnavailable or TooManyLabels. An empty `label` brings the automatic one back."""
        corrected = Corrected(self._release.version, feature)
        if label:
            correction = LabelCorrection(
                automatic_label=self._release.catalogue.automatic_labels[feature], author=author
            )
            correction.time.GetCurrentTime()
            await self._store.put(corrected, Feature(id=feature, label=label, correction=correction))
        else:
            await self._store.remove(corrected, self._carried.get(feature, ()))
        await self.refresh()

    def _candidates(
        self, corrections: Mapping[Corrected, Feature]
    ) -> Mapping[int, Sequence[tuple[Corrected, Feature]]]:
        """By feature of this bundle: the corrections that could hold for it."""
        found = defaultdict[int, list[tuple[Corrected, Feature]]](list)
        for corrected, correction in corrections.items():
            if corrected.version == self._release.version:
                if corrected.feature < len(self._release.catalogue.features):
                    found[corrected.feature].append((corrected, correction))
            elif counterpart := self._release.counterparts.of(corrected.version).get(corrected.feature):
                feature, likeness = counterpart
                carried = Feature()
                carried.CopyFrom(correction)
                carried.correction.automatic_label = self._release.catalogue.automatic_labels[feature]
                carried.correction.carried_confidence = likeness
                found[feature].append((corrected, carried))
        return found


def _rank(candidate: tuple[Corrected, Feature]) -> tuple[bool, int, str]:
    """One made on this bundle comes first, then the latest."""
    corrected, correction = candidate
    carried = correction.correction.carried_confidence > 0
    return carried, -correction.correction.time.ToNanoseconds(), corrected.version
