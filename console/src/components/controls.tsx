// Fields that find what can be steered, filtered or shown, by name: controls, attribute values, items.

import { create } from "@bufbuild/protobuf"
import { features, items } from "../api"
import { type AttributeRef, type Control, AttributeRefSchema, FeatureRefSchema } from "../gen/steersman/v1/control_pb"
import { useKnown, type Known } from "../known"
import { attributeName, conceptName, plain } from "../target_names"
import { added } from "../request"
import { Search, type Found } from "./search"

interface FoundControl extends Found {
  control: Control
}

const MOST_OF_A_KIND = 6

/** Concepts, features and attributes, by what they are called. */
export function PickControl({ label, choose }: { label: string; choose: (control: Control) => void }) {
  const known = useKnown()
  return (
    <Search<FoundControl>
      label={label}
      placeholder="Find a concept, a feature or an attribute"
      find={async (text, signal) => {
        const [feature, attribute] = await Promise.all([
          featuresLike(text, known, signal),
          attributesLike(text, signal),
        ])
        return [...conceptsLike(text, known), ...feature, ...attribute.map(tilt), ...words(text)]
      }}
      choose={({ control }) => choose(control)}
    />
  )
}

function conceptsLike(text: string, known: Known): FoundControl[] {
  const wanted = text.toLowerCase()
  return known.concepts
    .map(({ name }) => ({ name, label: conceptName(known, name) }))
    .filter(({ name, label }) => `${label} ${plain(name)}`.toLowerCase().includes(wanted))
    .slice(0, MOST_OF_A_KIND)
    .map(({ name, label }) => ({
      key: `concept ${name}`,
      label,
      note: "concept",
      control: added({ case: "concept", value: name }, 0.5),
    }))
}

async function featuresLike(text: string, known: Known, signal: AbortSignal): Promise<FoundControl[]> {
  const page = await features.listFeatures({ text, steerableOnly: true, pageSize: MOST_OF_A_KIND }, { signal })
  const { bundleVersion } = known.info
  return page.features.map(({ id, label }) => ({
    key: `feature ${id}`,
    label,
    note: "feature",
    control: added({ case: "feature", value: create(FeatureRefSchema, { id, bundleVersion }) }, 0.5),
  }))
}

const tilt = (attribute: AttributeRef): FoundControl => ({
  key: `attribute ${attributeName(attribute)}`,
  label: attributeName(attribute),
  note: "attribute, by the catalogue",
  control: added({ case: "attribute", value: attribute }, 0.5),
})

const words = (text: string): FoundControl[] =>
  text
    ? [{ key: "words", label: `“${text}”`, note: "in words", control: added({ case: "words", value: text }, 0.5) }]
    : []

/** Values of attributes, and numeric attributes as a whole if the text fits their names. */
async function attributesLike(text: string, signal: AbortSignal, numeric = true): Promise<AttributeRef[]> {
  const { attributes } = await items.listAttributes({ text, values: MOST_OF_A_KIND }, { signal })
  return attributes.flatMap(({ name, values, mean }) => {
    const whole = mean !== undefined && numeric && name.includes(text.toLowerCase()) ? [""] : []
    return [...whole, ...values.map(({ value }) => value)].map((value) => create(AttributeRefSchema, { name, value }))
  })
}

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
