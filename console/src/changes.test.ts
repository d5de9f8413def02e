import { create } from "@bufbuild/protobuf"
import { expect, test } from "vitest"
import { controlKey, hasStrength, merged, strengthOf, withStrength } from "./changes"
import { ControlSchema, Operation, type Control } from "./gen/steersman/v1/control_pb"
import { added } from "./request"

const horror: Control["target"] = { case: "concept", value: "genres:Horror" }
const noir: Control["target"] = { case: "concept", value: "genres:Film-Noir" }
const feature = (id: number, bundleVersion: string): Control["target"] =>
  ({ case: "feature", value: { $typeName: "steersman.v1.FeatureRef", id, bundleVersion } }) as Control["target"]
const strengths = (controls: Control[]) => controls.map((each) => [each.target.value, each.strength])

test("a strength takes the place of the one before, and 0 leaves it out", () => {
  const both = [added(horror, 0.5), added(noir, -1)]
  expect(strengths(withStrength(both, horror, 0.25))).toEqual([
    ["genres:Horror", 0.25],
    ["genres:Film-Noir", -1],
  ])
  expect(strengths(withStrength(both, horror, 0))).toEqual([["genres:Film-Noir", -1]])
  expect(strengths(withStrength([], noir, 0.1 + 0.2))).toEqual([["genres:Film-Noir", 0.3]])
})

test("what is kept and what is added become one control", () => {
  const all = merged([added(horror, 0.5), added(noir, -1)], [added(noir, 1), added(horror, 0.25)])
  expect(strengths(all)).toEqual([["genres:Horror", 0.75]])
})

test("goals and other operations are neither summed nor lost", () => {
  const ablated = create(ControlSchema, { target: horror, operation: Operation.ABLATE })
  const goal = create(ControlSchema, {
    target: horror,
    operation: Operation.ADD,
    goal: { goal: { case: "leastOverlap", value: 0.5 } },
  })
  expect([ablated, goal].map(hasStrength)).toEqual([false, false])
  const all = merged([ablated, goal], [added(horror, 1)])
  expect(all.length).toBe(3)
  expect(strengthOf(all, controlKey(added(horror, 1)))).toBe(1)
})

test("the same feature number of another bundle is another feature", () => {
  const all = merged([added(feature(7, "old"), 1)], [added(feature(7, "new"), -0.5)])
  expect(all.length).toBe(2)
  expect(strengthOf(all, controlKey(added(feature(7, "new"), 0)))).toBe(-0.5)
})
