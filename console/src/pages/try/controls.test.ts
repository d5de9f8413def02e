import { create } from "@bufbuild/protobuf"
import { expect, test } from "vitest"
import { ControlSource } from "../../gen/steersman/v1/control_pb"
import { RecommendRequestSchema, RecommendResponseSchema } from "../../gen/steersman/v1/recommendation_service_pb"
import { added, newRequest, type Request } from "../../request"
import { aimOf, attributeRef, goalOf, goalValue, hasItems, outcomes, withAim, withMore, type Aim } from "./controls"
import { withHistory, withoutEvents } from "./histories"

const horror = added({ case: "concept", value: "genres:Horror" }, 0.5)
const tilt = added({ case: "attribute", value: attributeRef("year", "") }, 1)

const requestWith = (...controls: Request["controls"]): Request => create(RecommendRequestSchema, { controls })

test.each<[Aim, number]>([
  ["at_least", 0.4],
  ["at_most", 0.1],
  ["overlap", 0.7],
  ["divergence", 0.25],
])("a goal is read back: %s", (aim, value) => {
  const control = { ...horror, goal: goalOf(aim, value, { case: undefined })! }
  expect([aimOf(control), goalValue(control)]).toEqual([aim, value])
})

test("from a strength to a goal and back, with the strength that was found", () => {
  const share = withAim(horror, "at_least", { case: undefined }, 0)
  expect([aimOf(share), share.strength, aimOf(horror)]).toEqual(["at_least", 0, "strength"])
  const back = withAim(share, "strength", { case: undefined }, 0.85)
  expect([aimOf(back), back.strength]).toEqual(["strength", 0.85])
})

test("a budget keeps the direction", () => {
  const down = { ...horror, strength: -0.3 }
  expect(withAim(down, "divergence", { case: undefined }, 0).strength).toBe(-2)
})

test("only what has items counts them", () => {
  expect([hasItems(horror), hasItems(tilt)]).toEqual([true, false])
})

test("a control on the same target adds up, and any other comes last", () => {
  const request = requestWith(horror)
  expect(withMore(request, { ...horror, strength: 0.25 }).controls.map(({ strength }) => strength)).toEqual([0.75])
  expect(withMore(request, tilt).controls.map(({ strength }) => strength)).toEqual([0.5, 1])
  expect(request.controls.map(({ strength }) => strength)).toEqual([0.5])
})

test("a control with a goal stays as it is beside a strength on the same target", () => {
  const request = requestWith({ ...horror, goal: goalOf("at_least", 0.4, { case: undefined })! })
  expect(withMore(request, horror).controls).toHaveLength(2)
})

test("receipts belong to controls by their place, those from elsewhere included", () => {
  const answer = create(RecommendResponseSchema, {
    appliedControls: [
      { control: tilt, source: ControlSource.SESSION },
      { control: horror, source: ControlSource.REQUEST },
    ],
    receipt: { controls: [{ appliedStrength: 1 }, { appliedStrength: 2 }] },
  })
  const { own, others } = outcomes(answer)
  expect(own.map(({ receipt }) => receipt?.appliedStrength)).toEqual([2])
  expect(others.map(({ receipt }) => receipt?.appliedStrength)).toEqual([1])
})

test("an event is taken out of a history once for each time that it is named", () => {
  const request = create(RecommendRequestSchema, { history: { itemIds: ["a", "b", "a", "c"], eventsBefore: 7n } })
  const { history } = withoutEvents(request, ["a", "c", "x"])
  expect([history?.itemIds, history?.eventsBefore]).toEqual([["a", "b"], 7n])
})

test("a history takes the place of a session, and the controls stay", () => {
  const request = create(RecommendRequestSchema, { sessionId: "ann", controls: [horror], minSessionVersion: 3n })
  const own = withHistory(request, newRequest().history)
  expect([own.sessionId, own.minSessionVersion, own.controls.length]).toEqual(["", 0n, 1])
})
