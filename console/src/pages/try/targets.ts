// What can be steered, found by one search: concepts, features, tilts, items and words.

import { create } from "@bufbuild/protobuf"
import { features, items } from "../../api"
import type { Found } from "../../components/search"
import { percent, plural } from "../../format"
import {
  FeatureRefSchema,
  ItemSetSchema,
  type AppliedControl,
  type Control,
  type ShareGoal,
} from "../../gen/steersman/v1/control_pb"
import type { Concept, Effect, Feature } from "../../gen/steersman/v1/feature_service_pb"
import type { Known } from "../../known"
import { knownItem } from "../../known-items"
import { featureName } from "../../names"
import { added, targetKey } from "../../request"
import { plain } from "../../target_names"
import { attributeLine } from "./attributes"
import { attributeRef } from "./controls"

export interface Target extends Found {
  control: Control
  /** The items that it was measured to be about, if it does not name any. */
  about?: ShareGoal["of"]
}

const BEGIN = 0.5
const BEGIN_NATS = 1
// Of each kind, with a text and without.
const MOST = 5
// Bytes that words may have.
const MOST_WORDS = 256

const gain = (effect: Effect | undefined): number => (effect ? effect.shareAfter - effect.shareBefore : 0)

const effectNote = (effect: Effect | undefined): string =>
  effect ? `share ${percent(effect.shareBefore)} → ${percent(effect.shareAfter)} at 1` : "effect not measured"

export function conceptTarget(concept: Concept): Target {
  return {
    key: `concept:${concept.name}`,
    label: concept.displayName || concept.name,
    note: effectNote(concept.effect),
    group: "Concepts",
    control: added({ case: "concept", value: concept.name }, BEGIN),
  }
}

export function featureTarget(feature: Feature, bundleVersion: string): Target {
  return {
    key: `feature:${feature.id}`,
    label: featureName(feature.label, feature.id),
    note: feature.steerable ? effectNote(feature.effect) : `not reliably steerable · feature ${feature.id}`,
    group: "Features of the model",
    control: added({ case: "feature", value: create(FeatureRefSchema, { id: feature.id, bundleVersion }) }, BEGIN),
    about: feature.association
      ? { case: "attribute", value: attributeRef(feature.association.attribute, feature.association.value) }
      : { case: undefined },
  }
}

function tiltTarget(name: string, value: string, note: string): Target {
  return {
    key: `attribute:${name}:${value}`,
    label: value ? `${value} (${plain(name)})` : plain(name),
    note,
    group: "Tilts: a plain bonus on scores",
    control: added({ case: "attribute", value: attributeRef(name, value) }, BEGIN_NATS),
  }
}

export const itemsControl = (itemIds: string[], strength = BEGIN): Control =>
  added({ case: "items", value: create(ItemSetSchema, { itemIds }) }, strength)

/** Concepts whose name has every word; without a text those that do most. */
export function findConcepts(concepts: readonly Concept[], text: string, most = MOST): Concept[] {
  const words = text.toLowerCase().split(/\s+/).filter(Boolean)
  return concepts
    .filter(({ displayName, name }) => {
      const where = `${displayName} ${name}`.toLowerCase()
      return words.every((word) => where.includes(word))
    })
    .sort((one, other) => gain(other.effect) - gain(one.effect))
    .slice(0, most)
}

export async function findTargets(known: Known, text: string, signal: AbortSignal): Promise<Target[]> {
  const concepts = findConcepts(known.concepts, text).map(conceptTarget)
  const found = await Promise.allSettled([
    features
      .listFeatures({ text, pageSize: MOST }, { signal })
      .then((page) => page.features.map((feature) => featureTarget(feature, page.bundleVersion))),
    tilts(known.info.bundleVersion, text, signal),
    text ? similar(text, signal) : Promise.resolve<Target[]>([]),
  ])
  // Concepts are here already: without any of the calls, they are all that there is.
  if (found.every(({ status }) => status === "rejected")) throw (found[0] as PromiseRejectedResult).reason
  return [...concepts, ...found.flatMap((each) => (each.status === "fulfilled" ? each.value : [])), ...words(text)]
}

/** Numeric attributes of a bundle: a text does not find them. */
const numeric = { bundleVersion: "", names: [] as string[] }

async function numericAttributes(bundleVersion: string, signal: AbortSignal): Promise<string[]> {
  if (numeric.bundleVersion !== bundleVersion) {
    const { attributes } = await items.listAttributes({ values: 1 }, { signal })
    numeric.names = attributes.filter(({ least }) => least !== undefined).map(({ name }) => name)
    numeric.bundleVersion = bundleVersion
  }
  return numeric.names
}

async function tilts(bundleVersion: string, text: string, signal: AbortSignal): Promise<Target[]> {
  const { attributes } = await items.listAttributes({ text, values: text ? MOST : 2 }, { signal })
  const values = attributes.flatMap(({ name, values }) =>
    values.map(({ value, items }) => tiltTarget(name, value, plural(items, "item"))),
  )
  const numbers = (await numericAttributes(bundleVersion, signal))
    .filter((name) => name.toLowerCase().includes(text.toLowerCase()))
    .map((name) => tiltTarget(name, "", "high or low"))
  return [...values.slice(0, MOST), ...numbers]
}

async function similar(text: string, signal: AbortSignal): Promise<Target[]> {
  const page = await items.listItems({ text, pageSize: MOST }, { signal })
  return page.items.map(({ itemId, title, attributes }) => ({
    key: `items:${itemId}`,
    label: title,
    note: attributeLine(attributes),
    group: "More like an item",
    control: itemsControl([itemId]),
  }))
}

function words(text: string): Target[] {
  if (!text || new TextEncoder().encode(text).length > MOST_WORDS) return []
  return [
    {
      key: `words:${text}`,
      label: `“${text}”`,
      note: "what titles, attributes and labels say",
      group: "Your words",
      control: added({ case: "words", value: text }, BEGIN),
    },
  ]
}

const names = new Map<string, string>()
const abouts = new Map<string, ShareGoal["of"]>()

/** What a search said of it, for as long as no answer does. */
export function learnTarget({ control, label, about }: Pick<Target, "control" | "label" | "about">): void {
  names.set(targetKey(control), label)
  if (about?.case) abouts.set(targetKey(control), about)
}

export const aboutOf = (control: Control): ShareGoal["of"] => abouts.get(targetKey(control)) ?? { case: undefined }

/** The name of a control before an answer has told it. */
export function targetName(control: Control, concepts: readonly Concept[], titleOf: (id: string) => string): string {
  const { target } = control
  switch (target.case) {
    case "concept":
      return concepts.find(({ name }) => name === target.value)?.displayName || target.value
    case "feature":
      return names.get(targetKey(control)) ?? `Feature ${target.value.id}`
    case "attribute":
      return target.value.value ? `${target.value.value} (${plain(target.value.name)})` : plain(target.value.name)
    case "items":
      return target.value.itemIds.length === 1
        ? `More like ${titleOf(target.value.itemIds[0]!)}`
        : `More like ${plural(target.value.itemIds.length, "item")}`
    case "words":
      return `“${target.value}”`
    default:
      return "Nothing"
  }
}

/** The name of a control that was applied. Tilts and item sets are named here, as the search names them. */
export function appliedName({ control, displayName }: AppliedControl, concepts: readonly Concept[]): string {
  const isNamedHere = control?.target.case === "attribute" || control?.target.case === "items" || !displayName
  if (displayName && control?.target.case === "feature") return featureName(displayName, control.target.value.id)
  return control && isNamedHere ? targetName(control, concepts, (id) => knownItem(id)?.title ?? id) : displayName
}

/** What kind of control it is, for the line below its name. */
export const KINDS: Record<string, string> = {
  concept: "Concept",
  feature: "Feature",
  attribute: "Tilt, in nats",
  items: "Item set",
  words: "Words",
}
