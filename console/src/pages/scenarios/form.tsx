// What a scenario says, as a form: controls, filters, composition, and who may add to it.

import { create } from "@bufbuild/protobuf"
import { items } from "../../api"
import { useCall } from "../../calls"
import { PickAttribute, PickControl, PickItem } from "../../components/controls"
import {
  AttributeFilterSchema,
  LeastShareSchema,
  MostPerValueSchema,
  type Composition,
  type Filters,
} from "../../gen/steersman/v1/recommendation_service_pb"
import type { Scenario } from "../../gen/steersman/v1/scenario_service_pb"
import { useKnown } from "../../known"
import { bytes } from "../../author"
import { plain, type Names } from "../../target_names"
import { Chips, PercentField } from "./chips"
import { ControlRow } from "./control_row"
import { PolicyFields } from "./policy_fields"
import { edited, shareName } from "./text"

export const MOST_DESCRIPTION_BYTES = 1000

export interface FormProps {
  draft: Scenario
  set: (draft: Scenario) => void
  names: Names
}

export function Form(props: FormProps) {
  return (
    <>
      <Description {...props} />
      <Controls {...props} />
      <FilterFields {...props} />
      <CompositionFields {...props} />
      <PolicyFields {...props} />
    </>
  )
}

function Description({ draft, set }: FormProps) {
  const size = bytes(draft.description)
  return (
    <section class="card">
      <label class="field">
        <span class="field-title">What it is for</span>
        <textarea
          rows={2}
          value={draft.description}
          placeholder="Second row of the home page: darker than usual, nothing for children"
          onInput={(event) => set(edited(draft, (copy) => (copy.description = event.currentTarget.value)))}
        />
      </label>
      {size > MOST_DESCRIPTION_BYTES && <p class="warning">Too long by {size - MOST_DESCRIPTION_BYTES} bytes.</p>}
    </section>
  )
}

function Controls({ draft, set, names }: FormProps) {
  const { limits } = useKnown().info
  const most = limits?.controls ?? 0
  return (
    <section class="card" aria-label="Controls">
      <h2>More of, less of</h2>
      {draft.controls.map((control, index) => (
        <ControlRow
          key={index}
          control={control}
          names={names}
          change={(next) => set(edited(draft, (copy) => (copy.controls[index] = next)))}
          remove={() => set(edited(draft, (copy) => copy.controls.splice(index, 1)))}
        />
      ))}
      {!draft.controls.length && <p class="muted">Nothing is steered yet. Find something to turn up or down.</p>}
      {draft.controls.length < most ? (
        <PickControl
          label="Add something to steer"
          choose={(control) => set(edited(draft, (copy) => copy.controls.push(control)))}
        />
      ) : (
        <p class="note">The server takes at most {most} controls.</p>
      )}
    </section>
  )
}

function FilterFields({ draft, set, names }: FormProps) {
  const { attributes } = useKnown().info
  const filters = draft.filters!
  const write = (change: (filters: Filters) => void) => set(edited(draft, (copy) => change(copy.filters!)))
  const free = attributes.filter((name) => !filters.attributes.some(({ attribute }) => attribute === name))
  return (
    <section class="card" aria-label="Filters">
      <h2>Only, and never</h2>
      <label class="check">
        <input
          type="checkbox"
          checked={filters.includeSeen}
          onChange={(event) => write((it) => (it.includeSeen = event.currentTarget.checked))}
        />
        People may be shown again what they have seen already
      </label>
      {filters.attributes.map(({ attribute, anyOf }, index) => (
        <fieldset key={attribute}>
          <legend>Only items whose {plain(attribute)} is one of</legend>
          <Chips
            label={`Allowed ${plain(attribute)}`}
            chips={anyOf.map((value) => ({ key: value, label: value }))}
            remove={(at) =>
              write((it) => {
                it.attributes[index]!.anyOf.splice(at, 1)
                if (!it.attributes[index]!.anyOf.length) it.attributes.splice(index, 1)
              })
            }
          />
          <PickAttribute
            label={`Another ${plain(attribute)}`}
            placeholder={`Or another ${plain(attribute)}`}
            attribute={attribute}
            numbers
            choose={({ value }) => write((it) => anyOf.includes(value) || it.attributes[index]!.anyOf.push(value))}
          />
        </fieldset>
      ))}
      {free.length > 0 && (
        <PickAttribute
          label="Add a condition"
          placeholder="Only items with a value: find one, or type a number"
          numbers
          choose={({ name, value }) =>
            write((it) => {
              const there = it.attributes.find(({ attribute }) => attribute === name)
              if (!there) it.attributes.push(create(AttributeFilterSchema, { attribute: name, anyOf: [value] }))
              else if (!there.anyOf.includes(value)) there.anyOf.push(value)
            })
          }
        />
      )}
      <ItemSetField
        title="Never these"
        ids={filters.denyItemIds}
        names={names}
        write={(ids) => write((it) => (it.denyItemIds = ids))}
      />
      <ItemSetField
        title="Only these"
        note="If there are any, nothing else is shown."
        ids={filters.allowItemIds}
        names={names}
        write={(ids) => write((it) => (it.allowItemIds = ids))}
      />
    </section>
  )
}

interface ItemSetFieldProps {
  title: string
  note?: string
  ids: string[]
  names: Names
  write: (ids: string[]) => void
  ordered?: boolean
}

function ItemSetField({ title, note, ids, names, write, ordered }: ItemSetFieldProps) {
  const move = (from: number, to: number) => {
    const copy = [...ids]
    copy.splice(to, 0, ...copy.splice(from, 1))
    write(copy)
  }
  return (
    <fieldset>
      <legend>{title}</legend>
      <Chips
        label={title}
        chips={ids.map((id) => ({ key: id, label: names.item(id) }))}
        remove={(at) => write(ids.filter((_, index) => index !== at))}
        move={ordered ? move : undefined}
      />
      <PickItem label={`${title}: add an item`} choose={(id) => ids.includes(id) || write([...ids, id])} />
      {note && <p class="note">{note}</p>}
    </fieldset>
  )
}

/** Attributes with values, not numbers: only of these can items be alike. */
function useCategories(): string[] {
  const { bundleVersion } = useKnown().info
  const { value } = useCall(
    async (signal) => (await items.listAttributes({ values: 1 }, { signal })).attributes,
    [bundleVersion],
  )
  return (value ?? []).filter(({ mean }) => mean === undefined).map(({ name }) => name)
}

function CompositionFields({ draft, set, names }: FormProps) {
  const attributes = useCategories()
  const composition = draft.composition!
  const write = (change: (composition: Composition) => void) => set(edited(draft, (copy) => change(copy.composition!)))
  const free = attributes.filter((name) => !composition.mostPerValue.some(({ attribute }) => attribute === name))
  return (
    <section class="card" aria-label="Composition">
      <h2>How a list is put together</h2>
      <label class="field">
        <span class="field-title">
          Variety <span class="muted">{Math.round(100 * composition.diversity)}%</span>
        </span>
        <input
          type="range"
          min={0}
          max={1}
          step={0.05}
          value={composition.diversity}
          aria-valuetext={`${Math.round(100 * composition.diversity)}%`}
          onInput={(event) => write((it) => (it.diversity = Number(event.currentTarget.value)))}
        />
        <span class="note">0%: the best items, however alike they are.</span>
      </label>
      <ItemSetField
        title="Always first, in this order"
        ids={composition.pinnedItemIds}
        names={names}
        write={(ids) => write((it) => (it.pinnedItemIds = ids))}
        ordered
      />
      <fieldset>
        <legend>Not too many alike</legend>
        {composition.mostPerValue.map(({ attribute, most }, index) => (
          <div class="row" key={attribute}>
            <label class="number-field grow">
              <span>With the same {plain(attribute)}, at most</span>
              <input
                type="number"
                min={1}
                step={1}
                value={most}
                onChange={({ currentTarget: { value } }) =>
                  write((it) => (it.mostPerValue[index]!.most = Math.max(1, Math.round(Number(value) || 1))))
                }
              />
            </label>
            <button
              type="button"
              class="icon"
              aria-label={`Remove the limit on ${plain(attribute)}`}
              onClick={() => write((it) => it.mostPerValue.splice(index, 1))}
            >
              ×
            </button>
          </div>
        ))}
        {free.length > 0 && (
          <label class="way">
            <span class="visually-hidden">Limit items alike in an attribute</span>
            <select
              value=""
              onChange={({ currentTarget }) => {
                const attribute = currentTarget.value
                if (attribute) write((it) => it.mostPerValue.push(create(MostPerValueSchema, { attribute, most: 3 })))
              }}
            >
              <option value="">Add a limit for an attribute</option>
              {free.map((name) => (
                <option key={name} value={name}>
                  {plain(name)}
                </option>
              ))}
            </select>
          </label>
        )}
      </fieldset>
      <fieldset>
        <legend>At least a share of the list</legend>
        {composition.leastShares.map((least, index) => (
          <div class="row" key={index}>
            <span class="grow">{shareName(least, names)}</span>
            <PercentField
              hidden
              label={`Least share of ${shareName(least, names)}`}
              value={least.share}
              change={(share) => write((it) => (it.leastShares[index]!.share = share))}
            />
            <button
              type="button"
              class="icon"
              aria-label={`Remove the share of ${shareName(least, names)}`}
              onClick={() => write((it) => it.leastShares.splice(index, 1))}
            >
              ×
            </button>
          </div>
        ))}
        <PickAttribute
          label="Add a least share"
          placeholder="Find what must be in the list"
          choose={(value) =>
            write((it) =>
              it.leastShares.push(create(LeastShareSchema, { of: { case: "attribute", value }, share: 0.2 })),
            )
          }
        />
      </fieldset>
    </section>
  )
}
