// Attributes of an item in one short line.

import type { ItemAttribute } from "../../gen/steersman/v1/item_service_pb"

const MOST_VALUES = 3
// Made at training from who consumed what: they say nothing of an item to a reader.
const COUNTED = new Set(["popularity", "exposure", "co_consumption"])

export const isDescriptive = (attribute: string): boolean => !COUNTED.has(attribute)

export function attributeLine(attributes: readonly ItemAttribute[]): string {
  const said = attributes.filter(({ name }) => isDescriptive(name))
  const values = said.flatMap(({ values }) => values.slice(0, MOST_VALUES))
  const numbers = said.flatMap(({ number }) => (number === undefined ? [] : [String(Math.round(number))]))
  return [values.join(", "), ...numbers].filter(Boolean).join(" · ")
}
