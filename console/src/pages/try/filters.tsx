// Which items may be returned, how many, and how varied.

import { create } from "@bufbuild/protobuf"
import { useId, useState } from "preact/hooks"
import { items } from "../../api"
import { Search, type Found } from "../../components/search"
import { plural } from "../../format"
import {
  AttributeFilterSchema,
  CompositionSchema,
  FiltersSchema,
  type Filters,
} from "../../gen/steersman/v1/recommendation_service_pb"
import { useItems } from "../../known-items"
import { useKnown } from "../../known"
import { changed, type Edit, type Request } from "../../request"
import { plain } from "../../target_names"
import { findItems } from "./sliders"

interface FiltersProps {
  /** Only filters, length and composition are read. */
  request: Request
  edit: Edit
}

export function FiltersCard({ request, edit }: FiltersProps) {
  const filters = request.filters ?? create(FiltersSchema)
  const { titleOf } = useItems([...filters.denyItemIds, ...filters.allowItemIds])
  const set = (how: (filters: Filters) => void) =>
    edit((now) => changed(now, (copy) => how((copy.filters ??= create(FiltersSchema)))))
  const on =
    filters.attributes.length + filters.denyItemIds.length + filters.allowItemIds.length + (filters.includeSeen ? 1 : 0)
  const [open, setOpen] = useState(on > 0)
  return (
    <details class="card try-filters" open={open} onToggle={(event) => setOpen(event.currentTarget.open)}>
      <summary>
        <h2>Filters and length</h2>
        <span class="muted">{on ? plural(on, "filter") : `${request.k || 10} items`}</span>
      </summary>
      <AttributeFilters filters={filters} set={set} />
      <label class="try-check">
        <input
          type="checkbox"
          checked={filters.includeSeen}
          onChange={(event) => {
            const { checked } = event.currentTarget
            set((copy) => void (copy.includeSeen = checked))
          }}
        />
        Also items of the history
      </label>
      <Search
        label="Never show an item"
        find={findItems}
        choose={({ key }) => set((copy) => void (copy.denyItemIds.includes(key) || copy.denyItemIds.push(key)))}
      />
      <Chips
        label="Never shown"
        chips={filters.denyItemIds.map((id) => ({ key: id, text: titleOf(id) }))}
        remove={(key) => set((copy) => void (copy.denyItemIds = copy.denyItemIds.filter((each) => each !== key)))}
      />
      <Chips
        label="Only these"
        chips={filters.allowItemIds.map((id) => ({ key: id, text: `only ${titleOf(id)}` }))}
        remove={(key) => set((copy) => void (copy.allowItemIds = copy.allowItemIds.filter((each) => each !== key)))}
      />
      <Shape request={request} edit={edit} />
    </details>
  )
}

interface ValueFound extends Found {
  attribute: string
  value: string
}

async function findValues(text: string, signal: AbortSignal): Promise<ValueFound[]> {
  const { attributes } = await items.listAttributes({ text, values: 8 }, { signal })
  return attributes.flatMap(({ name, values }) =>
    values.map(({ value, items }) => ({
      key: `${name}:${value}`,
      label: value,
      note: plural(items, "item"),
      group: plain(name),
      attribute: name,
      value,
    })),
  )
}

function AttributeFilters({ filters, set }: { filters: Filters; set: (how: (filters: Filters) => void) => void }) {
  const add = ({ attribute, value }: ValueFound) =>
    set((copy) => {
      const same = copy.attributes.find((each) => each.attribute === attribute)
      if (!same) copy.attributes.push(create(AttributeFilterSchema, { attribute, anyOf: [value] }))
      else if (!same.anyOf.includes(value)) same.anyOf.push(value)
    })
  const remove = (attribute: string, value: string) =>
    set((copy) => {
      for (const each of copy.attributes)
        if (each.attribute === attribute) each.anyOf = each.anyOf.filter((one) => one !== value)
      copy.attributes = copy.attributes.filter(({ anyOf }) => anyOf.length)
    })
  return (
    <>
      <Search label="Only items with" find={findValues} choose={add} />
      {filters.attributes.map(({ attribute, anyOf }) => (
        <Chips
          key={attribute}
          label={`Only ${plain(attribute)}`}
          chips={anyOf.map((value) => ({ key: value, text: value }))}
          remove={(value) => remove(attribute, value)}
          before={`${plain(attribute)}:`}
        />
      ))}
    </>
  )
}

interface ChipsProps {
  label: string
  before?: string
  chips: { key: string; text: string }[]
  remove: (key: string) => void
}

function Chips({ label, before, chips, remove }: ChipsProps) {
  if (!chips.length) return null
  return (
    <ul class="row try-chips" aria-label={label}>
      {before && <li class="muted">{before}</li>}
      {chips.map(({ key, text }) => (
        <li key={key} class="chip">
          {text}
          <button type="button" class="try-chip-drop" aria-label={`Remove ${text}`} onClick={() => remove(key)}>
            ×
          </button>
        </li>
      ))}
    </ul>
  )
}

function Shape({ request, edit }: FiltersProps) {
  const { limits } = useKnown().info
  const [k, diversity] = [useId(), useId()]
  const most = limits?.k ?? 100
  const variety = request.composition?.diversity ?? 0
  return (
    <>
      <div class="try-shape">
        <label for={k}>Items in the list</label>
        <input
          id={k}
          type="number"
          min={1}
          max={most}
          value={request.k || 10}
          onChange={(event) => {
            const next = Math.round(Number(event.currentTarget.value))
            const kept = Number.isFinite(next) && next >= 1 ? Math.min(next, most) : request.k
            event.currentTarget.value = String(kept)
            edit((now) => changed(now, (copy) => void (copy.k = kept)))
          }}
        />
      </div>
      <div class="try-shape">
        <label for={diversity}>Variety</label>
        <input
          id={diversity}
          class="try-goal grow"
          type="range"
          min={0}
          max={1}
          step={0.05}
          value={variety}
          aria-valuetext={variety.toFixed(2)}
          onInput={(event) => {
            const next = Number(event.currentTarget.value)
            edit((now) =>
              changed(now, (copy) => void ((copy.composition ??= create(CompositionSchema)).diversity = next)),
            )
          }}
        />
        <span class="slider-amount">{variety.toFixed(2)}</span>
      </div>
    </>
  )
}
