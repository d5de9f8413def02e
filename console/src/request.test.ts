import { create, equals } from "@bufbuild/protobuf"
import { expect, test } from "vitest"
import { RecommendRequestSchema } from "./gen/steersman/v1/recommendation_service_pb"
import { added, changed, fromText, newRequest, targetKey, toText } from "./request"

test("a request survives the address", () => {
  const request = create(RecommendRequestSchema, {
    sessionId: "ann",
    k: 12,
    controls: [added({ case: "concept", value: "genres:Film-Noir" }, -0.25)],
    filters: { denyItemIds: ["ü/1?"] },
  })
  expect(equals(RecommendRequestSchema, fromText(toText(request))!, request)).toBe(true)
})

test.each(["%", "AAA=A", "_____"])("a broken address is no request: %s", (text) => {
  expect(fromText(text)).toBeUndefined()
})

test("a change leaves the request as it was", () => {
  const request = newRequest()
  const copy = changed(request, (each) => void each.controls.push(added({ case: "words", value: "noir" }, 1)))
  expect([request.controls.length, copy.controls.length]).toEqual([0, 1])
})

test("controls on the same thing have the same key", () => {
  const one = added({ case: "concept", value: "genres:Horror" }, 0.5)
  const other = added({ case: "concept", value: "genres:Horror" }, -1)
  expect(targetKey(one)).toBe(targetKey(other))
})
