// Figures of an evaluation in words, and what falls short according to them.

import { percent, plural } from "../../format"
import type { Concept, Feature } from "../../gen/steersman/v1/feature_service_pb"
import { plain } from "../../target_names"

export type Figures = Record<string, number>

/** Density below which a feature is rare: ListFeatures leaves it out by default. */
const RARE = 0.005
const LITTLE_RAISED = 0.05
const COSTLY = 0.8
const MOST_NAMES = 4

export interface Measure {
  name: string
  label: string
  meaning: string
}

export const MEASURES: Measure[] = [
  { name: "ndcg_at_10", label: "NDCG@10", meaning: "How far up among the ten the next choice stands." },
  { name: "hr_at_10", label: "Hit rate@10", meaning: "How often the next choice is among the ten." },
  { name: "mrr", label: "Mean reciprocal rank", meaning: "How far up in the whole ranking the next choice stands." },
  { name: "coverage_at_10", label: "Coverage@10", meaning: "The part of all items that is in somebody's list." },
]

export const SYSTEMS = [
  { name: "", label: "This model" },
  { name: "_unfiltered", label: "The same, seen items left in" },
  { name: "_most_popular", label: "The most popular items" },
] as const

/** "test" where it was measured, otherwise "valid"; undefined where neither was. */
export const splitOf = (figures: Figures): string | undefined =>
  ["test", "valid"].find((split) => figures[`${split}.ndcg_at_10`] !== undefined)

const SPLITS: Record<string, string> = { test: "Test", valid: "Validation" }
const KINDS: Record<string, string> = {
  "": "",
  unfiltered: "items seen before not left out",
  most_popular: "most popular",
}
const OTHERS: Record<string, string> = {
  "sae.test_ndcg_kept": "Autoencoder: part of NDCG@10 that it keeps, test",
  "sae.valid_ndcg_kept": "Autoencoder: part of NDCG@10 that it keeps, validation",
  "sae.variance_explained": "Autoencoder: variance explained",
  "sae.dead": "Autoencoder: dead features",
  "sae.active": "Autoencoder: features active at a time",
  "recommender.epochs": "Training: epochs",
  "recommender.seconds": "Training: seconds",
}

/** "test_most_popular.ndcg_at_10": "Test, most popular: NDCG@10". */
export function figureName(name: string): string {
  const other = OTHERS[name]
  if (other) return other
  const found = /^(test|valid)_?([a-z_]*)\.(.+)$/.exec(name)
  const measure = MEASURES.find((each) => each.name === found?.[3])
  const kind = KINDS[found?.[2] ?? "?"]
  if (!found || !measure || kind === undefined) return plain(name.replaceAll(".", ": "))
  return `${SPLITS[found[1]!]}${kind && `, ${kind}`}: ${measure.label}`
}

/** Two figures that are shown alike: shares, or small numbers. */
export function figureText(name: string, value: number): string {
  if (/kept|explained|coverage|hr_at/.test(name)) return `${(100 * value).toFixed(1)}%`
  if (/dead|active|epochs/.test(name)) return value.toFixed(Number.isInteger(value) ? 0 : 1)
  return /seconds/.test(name) ? value.toFixed(0) : value.toFixed(4)
}

/** The order of the tables: what was tested first. */
export function figureOrder(names: Iterable<string>): string[] {
  const place = (name: string) =>
    ["test.", "test_", "sae.", "valid.", "valid_"].findIndex((each) => name.startsWith(each))
  const measure = (name: string) => MEASURES.findIndex((each) => name.endsWith(`.${each.name}`))
  return [...new Set(names)].sort((one, other) => {
    const [mine, theirs] = [place(one), place(other)].map((at) => (at < 0 ? 9 : at)) as [number, number]
    return mine - theirs || measure(one) - measure(other) || one.localeCompare(other)
  })
}

export const raised = ({ effect }: Pick<Concept, "effect">): number | undefined =>
  effect && effect.shareAfter - effect.shareBefore

export interface Shortfall {
  title: string
  text: string
}

export interface Judged {
  figures: Figures
  concepts: Concept[]
  features: Feature[]
  nameOf: (concept: Concept) => string
}

/** What people should know before they trust it; the sentences are computed. */
export function shortfalls(judged: Judged): Shortfall[] {
  return [
    ...accuracy(judged.figures),
    ...autoencoder(judged.figures),
    ...ofConcepts(judged),
    ...ofFeatures(judged.features),
  ]
}

function accuracy(figures: Figures): Shortfall[] {
  const split = splitOf(figures)
  if (!split) return [{ title: "Accuracy was not measured", text: "The bundle has no figures of it." }]
  const found: Shortfall[] = []
  const ndcg = figures[`${split}.ndcg_at_10`] ?? 0
  const popular = figures[`${split}_most_popular.ndcg_at_10`]
  if (popular !== undefined && ndcg < 1.1 * popular)
    found.push({
      title: "Hardly better than the most popular items",
      text: `NDCG@10 is ${ndcg.toFixed(3)}; showing everybody the most popular gives ${popular.toFixed(3)}.`,
    })
  const hits = figures[`${split}.hr_at_10`]
  if (hits !== undefined && hits < 0.5)
    found.push({
      title: "Most lists miss",
      text: `What a person chose next is among the ten in ${percent(hits)} of cases. They chose out of all items, one of which counts.`,
    })
  const coverage = figures[`${split}.coverage_at_10`]
  if (coverage !== undefined && coverage < 0.5)
    found.push({
      title: "Many items are never shown",
      text: `Without steering, ${percent(1 - coverage)} of all items are in no list of the people it was tested on.`,
    })
  return found
}

function autoencoder(figures: Figures): Shortfall[] {
  const found: Shortfall[] = []
  const kept = figures["sae.test_ndcg_kept"] ?? figures["sae.valid_ndcg_kept"]
  if (kept !== undefined && kept < 0.95)
    found.push({
      title: "Features do not hold all that the model knows",
      text: `Lists made from features alone keep ${percent(kept)} of NDCG@10. Steering does not cost this: what features leave out is added back.`,
    })
  const dead = figures["sae.dead"] ?? 0
  if (dead > 0)
    found.push({
      title: `${plural(dead, "feature is", "features are")} dead`,
      text: "They are never active, and cannot be steered.",
    })
  return found
}

function ofConcepts({ concepts, nameOf }: Judged): Shortfall[] {
  const found: Shortfall[] = []
  const tell = (those: Concept[], title: (count: string) => string, text: string) => {
    if (!those.length) return
    found.push({
      title: title(`${those.length} of ${plural(concepts.length, "concept")}`),
      text: `${text} ${named(those.map(nameOf))}`,
    })
  }
  tell(
    concepts.filter(({ beyondNatural }) => beyondNatural),
    (count) => `${count} ask for more than is natural`,
    "At strength 1 their features are more than twice as strong as they ever are by themselves: expect odd items.",
  )
  tell(
    concepts.filter((concept) => (raised(concept) ?? 1) < LITTLE_RAISED),
    (count) => `${count} do little`,
    `At strength 1 they raise the share of what they name by less than ${percent(LITTLE_RAISED)} of the list.`,
  )
  tell(
    concepts.filter(({ effect }) => effect !== undefined && effect.ndcgKept < COSTLY),
    (count) => `${count} cost much accuracy`,
    `At strength 1 less than ${percent(COSTLY)} of NDCG@10 is kept.`,
  )
  const unmeasured = concepts.filter(({ effect }) => effect === undefined)
  tell(unmeasured, (count) => `${count} were not measured`, "What they do is not known.")
  return found
}

function named(names: string[]): string {
  const more = names.length - MOST_NAMES
  return `${names.slice(0, MOST_NAMES).join(", ")}${more > 0 ? ` and ${more} more` : ""}.`
}

function ofFeatures(features: Feature[]): Shortfall[] {
  if (!features.length) return []
  const found: Shortfall[] = []
  const share = (count: number) => `${percent(count / features.length)} of features`
  const unclear = features.filter(({ clear }) => !clear).length
  if (unclear)
    found.push({
      title: `${share(unclear)} have no clear meaning`,
      text: `${unclear} of ${features.length}: no words fit the items at which they are active.`,
    })
  const fixed = features.filter(({ steerable }) => !steerable).length
  if (fixed)
    found.push({
      title: `${share(fixed)} are not reliably steerable`,
      text: `${fixed} of ${features.length} were not measured to do what their label says.`,
    })
  const rare = features.filter(({ density }) => density < RARE).length
  if (rare)
    found.push({
      title: `${share(rare)} are rare`,
      text: `${rare} of ${features.length} are active at less than one event in 200.`,
    })
  return found
}
