// Names for people: of concepts, features, attributes and items.

import type { AttributeRef, Control, FeatureRef } from "./gen/steersman/v1/control_pb"
import type { Scenario } from "./gen/steersman/v1/scenario_service_pb"
import type { Known } from "./known"
import { plural } from "./format"

export interface Names {
  concept: (name: string) => string
  feature: (ref: FeatureRef) => string
  item: (id: string) => string
}

const PLAIN: Record<string, string> = { co_consumption: "audience", exposure: "times shown" }

/** The name of an attribute, as a noun: "With the same audience", "audience: Alien / Aliens". */
export const plain = (name: string): string => PLAIN[name] ?? name.replaceAll("_", " ")

export const attributeName = ({ name, value }: Pick<AttributeRef, "name" | "value">): string =>
  value ? `${plain(name)}: ${value}` : plain(name)

export function conceptName(known: Known, name: string): string {
  const concept = known.concepts.find((each) => each.name === name)
  if (concept?.displayName) return concept.displayName
  return concept?.value || plain(name.includes(":") ? name.slice(name.indexOf(":") + 1) : name)
}

export function targetName({ target }: Control, names: Names): string {
  switch (target.case) {
    case "concept":
      return names.concept(target.value)
    case "feature":
      return names.feature(target.value)
    case "attribute":
      return attributeName(target.value)
    case "items":
      return itemsName(target.value.itemIds, names)
    case "words":
      return `“${target.value}”`
    default:
      return "nothing"
  }
}

export function itemsName(ids: string[], names: Names): string {
  const [first, second] = ids
  if (first === undefined) return "no items"
  if (ids.length > 2) return `${names.item(first)} and ${plural(ids.length - 1, "more", "more")}`
  return second === undefined ? names.item(first) : `${names.item(first)} and ${names.item(second)}`
}

/** All items that scenarios name. */
export function itemsOf(scenarios: Scenario[]): string[] {
  const ids = new Set<string>()
  const add = (more: string[] | undefined) => more?.forEach((id) => ids.add(id))
  for (const { controls, filters, composition } of scenarios) {
    for (const { target, goal } of controls) {
      if (target.case === "items") add(target.value.itemIds)
      if (goal?.goal.case === "share" && goal.goal.value.of.case === "items") add(goal.goal.value.of.value.itemIds)
    }
    add(filters?.allowItemIds)
    add(filters?.denyItemIds)
    add(composition?.pinnedItemIds)
    for (const { of } of composition?.leastShares ?? []) if (of.case === "items") add(of.value.itemIds)
  }
  return [...ids].sort()
}

export function featuresOf(scenarios: Scenario[]): FeatureRef[] {
  return scenarios.flatMap(({ controls }) =>
    controls.flatMap(({ target }) => (target.case === "feature" ? [target.value] : [])),
  )
}
