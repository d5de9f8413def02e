"""The parts of an answer that its caller wants."""

from collections.abc import Iterator
from typing import NamedTuple

from steersman.v1 import recommendation_service_pb2 as pb
from steersman_service.errors import FieldViolation

KNOWN = {number: name for name, number in pb.AnswerPart.items() if number != pb.ANSWER_PART_UNSPECIFIED}


class AnswerParts(NamedTuple):
    """What a sound request asks for."""

    edits: bool = True
    receipt: bool | None = None
    """None: where a control has a goal."""
    attributes: bool = False

    @classmethod
    def of(cls, request: pb.RecommendRequest) -> "AnswerParts":
        if not request.parts:
            return WITH_RECEIPT if request.receipt else DEFAULT
        wanted = (pb.ANSWER_PART_EDITS, pb.ANSWER_PART_RECEIPT, pb.ANSWER_PART_ATTRIBUTES)
        return cls(*(part in request.parts for part in wanted))


DEFAULT, WITH_RECEIPT = AnswerParts(), AnswerParts(receipt=True)


def check_parts(request: pb.RecommendRequest) -> Iterator[FieldViolation]:
    if len(request.parts) > len(KNOWN):
        yield FieldViolation("parts", f"{len(request.parts)} parts; name each once, {len(KNOWN)} at most")
        return
    for index, part in enumerate(request.parts):
        if part not in KNOWN:
            yield FieldViolation(
                f"parts[{index}]", f"{part} is no part of an answer; known: {', '.join(KNOWN.values())}"
            )
        elif part == pb.ANSWER_PART_NONE and len(request.parts) > 1:
            yield FieldViolation(f"parts[{index}]", "is NONE beside other parts: leave it out, or the others")


def leave_edits_out(answer: pb.RecommendResponse) -> None:
    for applied in answer.applied_controls:
        applied.ClearField("edits")
