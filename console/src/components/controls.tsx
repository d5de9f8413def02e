// Fields that find what can be steered, filtered or shown, by name: controls, attribute values, items.

import { create } from "@bufbuild/protobuf"
import { items } from "../api"
import { AttributeRefSchema, type AttributeRef, type Control } from "../gen/steersman/v1/control_pb"
import { useKnown } from "../known"
import { findTargets, learnTarget } from "../pages/try/targets"
import { attributeName } from "../target_names"
import { Search, type Found } from "./search"

/** Concepts, features, attributes, items and words, by what they are called. */
export function PickControl({ label, choose }: { label: string; choose: (control: Control) => void }) {
  const known = useKnown()
  return (
    <Search
      label={label}
      placeholder="Genre, feature, title or words"
      find={(text, signal) => findTargets(known, text, signal)}
      choose={(target) => {
        learnTarget(target)
        choose(target.control)
      }}
    />
  )
}

const MOST_OF_A_KIND = 6

export interface PickAttributeProps {
  label: string
  placeholder?: string
  /** Values of this attribute alone. */
  attribute?: string
  /** Numbers, such as years, too: they are typed, and taken if an item may have them. */
  numbers?: boolean
  choose: (attribute: AttributeRef) => void
}

interface FoundAttribute extends Found {
  attribute: AttributeRef
}

async function numbersLike(text: string, name: string, signal: AbortSignal): Promise<FoundAttribute[]> {
  const number = Number(text)
  if (!text || !Number.isFinite(number)) return []
  const { attributes } = await items.listAttributes({ name, values: 1 }, { signal })
  return attributes
    .filter(({ least, most }) => least !== undefined && most !== undefined && least <= number && number <= most)
    .map(({ name }) => ({
      key: `${name} ${text}`,
      label: attributeName({ name, value: text }),
      attribute: create(AttributeRefSchema, { name, value: text }),
    }))
}

/** A value of a categorical attribute. */
export function PickAttribute({ label, placeholder, attribute: name = "", numbers, choose }: PickAttributeProps) {
  return (
    <Search<FoundAttribute>
      label={label}
      placeholder={placeholder ?? "Find a value"}
      find={async (text, signal) => {
        const { attributes } = await items.listAttributes(
          { name, text, values: name ? 20 : MOST_OF_A_KIND },
          { signal },
        )
        const named = numbers ? await numbersLike(text, name, signal) : []
        const found = attributes.flatMap((one) =>
          one.values.map(({ value, items: times }) => ({
            key: `${one.name} ${value}`,
            label: name ? value : attributeName({ name: one.name, value }),
            note: `${times} items`,
            attribute: create(AttributeRefSchema, { name: one.name, value }),
          })),
        )
        return [...named, ...found]
      }}
      choose={({ attribute }) => choose(attribute)}
    />
  )
}

export function PickItem({
  label,
  placeholder,
  choose,
}: {
  label: string
  placeholder?: string
  choose: (id: string) => void
}) {
  return (
    <Search
      label={label}
      placeholder={placeholder ?? "Find an item by its title"}
      find={async (text, signal) => {
        const page = await items.listItems({ text, pageSize: 12 }, { signal })
        return page.items.map(({ itemId, title }) => ({ key: itemId, label: title || itemId }))
      }}
      choose={({ key }) => choose(key)}
    />
  )
}
