// Attributes of an item in one short line.

import type { ItemAttribute } from "../../gen/steersman/v1/item_service_pb"

const MOST_VALUES = 3
// Known of every item, and of no use to a reader: the model's own counts.
const INTERNAL = new Set(["popularity", "exposure", "co_consumption"])

export function attributeLine(attributes: readonly ItemAttribute[]): string {
  const said = attributes.filter(({ name }) => !INTERNAL.has(name))
  const values = said.flatMap(({ values }) => values.slice(0, MOST_VALUES))
  const numbers = said.flatMap(({ number }) => (number === undefined ? [] : [String(Math.round(number))]))
  return [values.join(", "), ...numbers].filter(Boolean).join(" · ")
}
