"""Pages through the histories that a bundle keeps."""

from collections.abc import Sequence

from steersman.v1 import model_service_pb2 as pb
from steersman.v1.recommendation_service_pb2 import History
from steersman_service.api.pages import check_query, page_of
from steersman_service.api.release import Release
from steersman_service.bundle.histories import Histories
from steersman_service.bundle.items import Rows
from steersman_service.errors import raise_if_any

DEFAULT_PAGE_SIZE = 50


class HistoryPages:
    def __init__(self, release: Release, max_message_bytes: int) -> None:
        self._version, self._max_message_bytes = release.version, max_message_bytes
        self._histories = Histories(release.bundle, release.items)

    def page(self, request: pb.ListHistoriesRequest) -> pb.ListHistoriesResponse:
        raise_if_any(list(check_query(request.text, request.page_size)))
        found = self._histories.find(request.text, request.seed)
        query = f"{self._version} histories {request.seed} {request.text}"
        size = request.page_size or DEFAULT_PAGE_SIZE
        page = page_of(found, size, request.page_token, query, self._max_message_bytes, self._describe)
        return pb.ListHistoriesResponse(
            histories=page.listed,
            next_page_token=page.next_token,
            total_size=len(found),
            bundle_version=self._version,
        )

    def _describe(self, places: Rows) -> Sequence[pb.SampleHistory]:
        return [
            pb.SampleHistory(
                name=str(place + 1),
                history=History(item_ids=kept.item_ids, events_before=kept.events_before),
                latest_titles=kept.latest_titles,
            )
            for place in places.tolist()
            for kept in [self._histories[place]]
        ]
