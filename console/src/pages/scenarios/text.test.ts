import { create } from "@bufbuild/protobuf"
import { expect, test } from "vitest"
import { ControlSchema, GoalSchema, Operation, ShareGoalSchema } from "../../gen/steersman/v1/control_pb"
import { PolicyRuleSchema, PolicySchema, ScenarioSchema } from "../../gen/steersman/v1/scenario_service_pb"
import { GoalStatus, ReceiptSchema } from "../../gen/steersman/v1/recommendation_service_pb"
import type { Names } from "../../target_names"
import { added } from "../../request"
import { means } from "./means"
import { difference, edited, lines, opened, ruleName, same, trimmed } from "./text"

const names: Names = {
  concept: (name) => name.slice(name.indexOf(":") + 1),
  feature: ({ id }) => `feature ${id}`,
  item: (id) => `Item ${id}`,
}

const horror = (strength: number) => added({ case: "concept", value: "genres:Horror" }, strength)

test("two versions differ by what is new, changed and gone", () => {
  const before = create(ScenarioSchema, { description: "old", controls: [horror(0.5)], filters: { includeSeen: true } })
  const after = create(ScenarioSchema, {
    description: "old",
    controls: [horror(-1)],
    composition: { pinnedItemIds: ["7", "8"] },
  })
  const told = difference(before, after, names).map(({ label, before, after }) => [label, before, after])
  expect(told).toEqual([
    ["Horror", "+0.50", "−1.00"],
    ["Always first", undefined, "Item 7, Item 8"],
    ["What people have seen already", "may be shown again", undefined],
  ])
})

test("the first version is all new", () => {
  expect(difference(undefined, create(ScenarioSchema, { controls: [horror(0.5)] }), names)).toHaveLength(1)
})

test("two controls on the same thing are two lines", () => {
  const scenario = create(ScenarioSchema, { controls: [horror(0.5), horror(1)] })
  expect(new Set(lines(scenario, names).map(({ key }) => key)).size).toBe(2)
})

test("a goal is said in words", () => {
  const goal = create(GoalSchema, {
    goal: { case: "share", value: create(ShareGoalSchema, { bound: { case: "atLeast", value: 0.3 } }) },
  })
  const control = create(ControlSchema, { ...horror(1.5), operation: Operation.ADD, goal })
  expect(lines(create(ScenarioSchema, { controls: [control] }), names)[0]?.value).toBe(
    "at least 30% of the list, by at most 1.50",
  )
})

test("a policy without rules lets nothing be added, and none lets everything", () => {
  const none = create(ScenarioSchema, { policy: create(PolicySchema) })
  expect(lines(none, names).map(({ value }) => value)).toEqual(["nothing"])
  expect(same(none, create(ScenarioSchema))).toBe(false)
  const rule = create(PolicyRuleSchema, { target: { case: "concept", value: "genres:*" } })
  expect(ruleName(rule, names)).toBe("concepts of genres")
})

test("neither a version nor an empty part is a change", () => {
  const scenario = create(ScenarioSchema, { name: "a", version: 3n, updatedBy: "Ada", controls: [horror(0.1)] })
  expect(same(scenario, opened(edited(scenario, (copy) => (copy.version = 4n))))).toBe(true)
  expect(trimmed(opened(scenario)).filters).toBeUndefined()
  expect(
    same(
      scenario,
      edited(scenario, (copy) => copy.controls.pop()),
    ),
  ).toBe(false)
})

test("means leave out what is not known", () => {
  const receipt = (shareAfter: number | undefined, goal: GoalStatus) =>
    create(ReceiptSchema, { controls: [{ shareBefore: 0, shareAfter, goal, appliedStrength: 1 }] })
  const both = [
    { receipt: receipt(0.4, GoalStatus.REACHED) },
    { receipt: receipt(undefined, GoalStatus.NOT_REACHABLE) },
  ]
  const [mean] = means(both)
  expect(mean?.after).toBeCloseTo(0.4)
  expect([mean?.goals, mean?.reached, mean?.strength]).toEqual([2, 1, 1])
  expect(means([])).toEqual([])
})
