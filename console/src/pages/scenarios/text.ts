// A scenario in words, line by line, and how two versions differ.

import { clone, create, toBinary } from "@bufbuild/protobuf"
import { Operation, type Control, type Goal } from "../../gen/steersman/v1/control_pb"
import { CompositionSchema, FiltersSchema, type LeastShare } from "../../gen/steersman/v1/recommendation_service_pb"
import { ScenarioSchema, type PolicyRule, type Scenario } from "../../gen/steersman/v1/scenario_service_pb"
import { percent, plural, signed } from "../../format"
import { attributeName, itemsName, plain, targetName, type Names } from "../../target_names"
import { targetKey } from "../../request"

export interface Line {
  /** Of the same thing in both versions. */
  key: string
  part: string
  label: string
  value: string
}

export interface Change {
  key: string
  part: string
  label: string
  before?: string
  after?: string
}

export function edited(scenario: Scenario, change: (copy: Scenario) => void): Scenario {
  const copy = clone(ScenarioSchema, scenario)
  change(copy)
  return copy
}

/** With filters and composition to write into. */
export const opened = (scenario: Scenario): Scenario =>
  edited(scenario, (copy) => {
    copy.filters ??= create(FiltersSchema)
    copy.composition ??= create(CompositionSchema)
  })

/** Without what says nothing. */
export const trimmed = (scenario: Scenario): Scenario =>
  edited(scenario, (copy) => {
    if (copy.filters && !toBinary(FiltersSchema, copy.filters).length) copy.filters = undefined
    if (copy.composition && !toBinary(CompositionSchema, copy.composition).length) copy.composition = undefined
  })

/** Whether two say the same, whatever their versions. */
export function same(one: Scenario, other: Scenario): boolean {
  const [mine, theirs] = [one, other].map((each) =>
    toBinary(
      ScenarioSchema,
      edited(trimmed(each), (copy) => {
        copy.version = 0n
        copy.updated = undefined
        copy.updatedBy = ""
      }),
    ).join(),
  )
  return mine === theirs
}

export function lines(scenario: Scenario, names: Names): Line[] {
  return [
    ...about(scenario),
    ...controlLines(scenario.controls, names),
    ...filterLines(scenario, names),
    ...compositionLines(scenario, names),
    ...policyLines(scenario, names),
  ]
}

export function difference(before: Scenario | undefined, after: Scenario, names: Names): Change[] {
  const old = new Map(before ? lines(before, names).map((line) => [line.key, line]) : [])
  const changes: Change[] = []
  for (const line of lines(after, names)) {
    const was = old.get(line.key)
    old.delete(line.key)
    if (was?.value === line.value) continue
    const { key, part, label } = line
    changes.push({ key, part, label, after: line.value, ...(was && { before: was.value }) })
  }
  for (const { key, part, label, value } of old.values()) changes.push({ key, part, label, before: value })
  return changes
}

function about({ description }: Scenario): Line[] {
  return description ? [{ key: "description", part: "What it is for", label: "", value: description }] : []
}

function controlLines(controls: Control[], names: Names): Line[] {
  const times = new Map<string, number>()
  return controls.map((control) => {
    const target = targetKey(control)
    const time = times.get(target) ?? 0
    times.set(target, time + 1)
    const value = howStrong(control, names)
    return { key: `control ${target} ${time}`, part: "More of, less of", label: targetName(control, names), value }
  })
}

export function howStrong({ operation, strength, goal }: Control, names: Names): string {
  switch (operation) {
    case Operation.SET:
      return `set to ${signed(strength)}`
    case Operation.SCALE:
      return `times ${strength.toFixed(2)}`
    case Operation.ABLATE:
      return "switched off"
    default:
      if (!goal) return signed(strength)
      return goalText(goal, names) + (strength ? `, by at most ${Math.abs(strength).toFixed(2)}` : "")
  }
}

export function goalText({ goal }: Goal, names: Names): string {
  switch (goal.case) {
    case "share": {
      const { of, bound } = goal.value
      const share = `${bound.case === "atMost" ? "at most" : "at least"} ${percent(bound.value ?? 0)} of the list`
      if (of.case === "attribute") return `${share} with ${attributeName(of.value)}`
      if (of.case === "concept") return `${share} with ${names.concept(of.value)}`
      if (of.case === "items") return `${share} from ${itemsName(of.value.itemIds, names)}`
      return share
    }
    case "leastOverlap":
      return `as strong as keeps ${percent(goal.value)} of the list`
    case "mostDivergence":
      return `as strong as keeps scores within ${goal.value.toFixed(2)} nats`
    default:
      return "no goal"
  }
}

const someItems = (ids: string[], names: Names): string =>
  ids.length > 4 ? plural(ids.length, "item") : ids.map(names.item).join(", ")

function filterLines({ filters }: Scenario, names: Names): Line[] {
  if (!filters) return []
  const part = "Only, and never"
  const found: Line[] = []
  if (filters.includeSeen)
    found.push({ key: "seen", part, label: "What people have seen already", value: "may be shown again" })
  for (const { attribute, anyOf } of filters.attributes)
    found.push({ key: `filter ${attribute}`, part, label: `Only ${plain(attribute)}`, value: anyOf.join(" or ") })
  if (filters.allowItemIds.length)
    found.push({ key: "allow", part, label: "Only these items", value: someItems(filters.allowItemIds, names) })
  if (filters.denyItemIds.length)
    found.push({ key: "deny", part, label: "Never these items", value: someItems(filters.denyItemIds, names) })
  return found
}

export const shareName = ({ of }: LeastShare, names: Names): string =>
  of.case === "attribute"
    ? attributeName(of.value)
    : of.case === "items"
      ? itemsName(of.value.itemIds, names)
      : "nothing"

function compositionLines({ composition }: Scenario, names: Names): Line[] {
  if (!composition) return []
  const part = "How a list is put together"
  const found: Line[] = []
  if (composition.diversity)
    found.push({ key: "diversity", part, label: "Variety", value: percent(composition.diversity) })
  for (const { attribute, most } of composition.mostPerValue)
    found.push({
      key: `most ${attribute}`,
      part,
      label: `With the same ${plain(attribute)}`,
      value: `at most ${most} in a list`,
    })
  if (composition.pinnedItemIds.length)
    found.push({
      key: "pinned",
      part,
      label: "Always first",
      value: composition.pinnedItemIds.map(names.item).join(", "),
    })
  for (const share of composition.leastShares)
    found.push({
      key: `least ${share.of.case === "items" ? share.of.value.itemIds.join() : shareName(share, names)}`,
      part,
      label: shareName(share, names),
      value: `at least ${percent(share.share)} of the list`,
    })
  return found
}

export function ruleName({ target }: PolicyRule, names: Names): string {
  switch (target.case) {
    case "concept":
      if (!target.value || target.value === "*") return "any concept"
      return target.value.endsWith("*")
        ? `concepts of ${plain(target.value.slice(0, -1).replace(/:$/, ""))}`
        : names.concept(target.value)
    case "attribute":
      if (!target.value.name) return "any attribute"
      return target.value.value ? attributeName(target.value) : `any ${plain(target.value.name)}`
    case "anyFeature":
      return "any feature"
    case "anyItemsOrWords":
      return "items and words"
    default:
      return "anything"
  }
}

function policyLines({ policy }: Scenario, names: Names): Line[] {
  if (!policy) return []
  const part = "What apps may add"
  const all = { key: "policy", part, label: "", value: policy.rules.length ? "only these" : "nothing" }
  return [
    all,
    ...policy.rules.map((rule) => ({
      key: `rule ${ruleName(rule, names)}`,
      part,
      label: ruleName(rule, names),
      value: rule.mostStrength ? `up to ${rule.mostStrength.toFixed(2)}` : "as strong as the server allows",
    })),
  ]
}
