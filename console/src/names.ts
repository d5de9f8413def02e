// Names of features, attributes and controls as people read them.

import type { Control } from "./gen/steersman/v1/control_pb"
import { controlKey } from "./changes"
import { percent } from "./format"
import type { Known } from "./known"
import { conceptName, targetName } from "./target_names"

const UNCLEAR = "no clear meaning"

export const isClear = (label: string): boolean => label !== UNCLEAR && label !== ""

/** "like A; B; C" of features without a term that fits is "Like A, B and C"; those without a meaning are told apart by their number. */
export function featureName(label: string, id: number): string {
  if (!isClear(label)) return `No clear meaning (feature ${id})`
  const titles = label.startsWith("like ") ? label.slice(5).split("; ") : []
  if (titles.length < 2) return label
  return `Like ${titles.slice(0, -1).join(", ")} and ${titles.at(-1)}`
}

/** What a control is about. `applied` are names that the server gave, by controlKey. */
export function controlName(control: Control, known: Known, applied: Map<string, string>): string {
  const { target } = control
  const given = applied.get(controlKey(control))
  if (given) return target.case === "feature" ? featureName(given, target.value.id) : given
  return targetName(control, {
    concept: (name) => conceptName(known, name),
    feature: ({ id }) => `Feature ${id}`,
    item: (id) => `item ${id}`,
  })
}

/** "0.67 ×", of a natural maximum. */
export const times = (value: number): string => `${value >= 9.95 ? Math.round(value) : value.toFixed(1)} ×`

/** "+37 points", of shares. */
export const points = (difference: number): string => {
  const whole = Math.round(100 * difference)
  return `${whole > 0 ? "+" : whole < 0 ? "−" : ""}${Math.abs(whole)} ${Math.abs(whole) === 1 ? "point" : "points"}`
}

/** A share without false precision where it is small. */
export const share = (value: number): string =>
  value > 0 && value < 0.01 ? `${(100 * value).toFixed(value < 0.001 ? 2 : 1)}%` : percent(value)
