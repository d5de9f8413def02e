// The controls of the request as sliders, each with a goal in its place if wanted, and with what became of it.

import { clone } from "@bufbuild/protobuf"
import { useId, useState } from "preact/hooks"
import { Search } from "../../components/search"
import { Slider } from "../../components/slider"
import { percent, plural, sentence, signed } from "../../format"
import { ControlSchema, ControlSource, Operation, type Control } from "../../gen/steersman/v1/control_pb"
import type { Concept } from "../../gen/steersman/v1/feature_service_pb"
import { GoalStatus } from "../../gen/steersman/v1/recommendation_service_pb"
import { items } from "../../api"
import { useItems } from "../../known-items"
import type { Known } from "../../known"
import { featureName } from "../../names"
import { reach, targetKey } from "../../request"
import { plain } from "../../target_names"
import { attributeLine } from "./attributes"
import {
  aimOf,
  attributeRef,
  countedOf,
  goalOf,
  goalValue,
  hasItems,
  withAim,
  type Aim,
  type Outcome,
} from "./controls"
import { aboutOf, appliedName, findConcepts, KINDS, targetName } from "./targets"

const AIMS: Record<Aim, string> = {
  strength: "Strength, by hand",
  at_least: "Goal: at least a share",
  at_most: "Goal: at most a share",
  overlap: "Goal: keep part of the list",
  divergence: "Goal: a budget of change",
}
const OPERATIONS: Partial<Record<Operation, (strength: number) => string>> = {
  [Operation.SET]: (strength) => `held at ${strength.toFixed(2)}`,
  [Operation.SCALE]: (strength) => `multiplied by ${strength.toFixed(2)}`,
  [Operation.ABLATE]: () => "switched off",
}
const MOST_NATS = 2

interface ControlSliderProps {
  control: Control
  known: Known
  outcome: Outcome | undefined
  /** The outcome is that of an earlier strength. */
  stale: boolean
  goalsLeft: number
  change: (control: Control) => void
  remove: () => void
}

export function ControlSlider({ control, known, outcome, stale, goalsLeft, change, remove }: ControlSliderProps) {
  const itemIds = control.target.case === "items" ? control.target.value.itemIds : []
  const { titleOf } = useItems(itemIds)
  const label = outcome
    ? appliedName({ ...outcome.applied, control }, known.concepts)
    : targetName(control, known.concepts, titleOf)
  const aim = aimOf(control)
  const set = (how: (copy: Control) => void) => {
    const copy = clone(ControlSchema, control)
    how(copy)
    change(copy)
  }
  const below = (
    <>
      <div class="row try-how">
        {control.operation === Operation.ADD && (
          <AimChoice
            label={label}
            aim={aim}
            goalsLeft={goalsLeft}
            choose={(next) => change(withAim(control, next, counted(control, known), found(outcome)))}
          />
        )}
        <span class="note">{KINDS[control.target.case ?? ""]}</span>
      </div>
      {itemIds.length > 0 && <ItemsOf control={control} label={label} titleOf={titleOf} set={set} />}
      {(aim === "at_least" || aim === "at_most") && !hasItems(control) && (
        <Counted control={control} known={known} change={change} />
      )}
      {outcome && <OutcomeLines outcome={outcome} stale={stale} aim={aim} />}
    </>
  )
  const operation = OPERATIONS[control.operation]
  if (operation)
    return (
      <div class="slider">
        <div class="slider-head">
          <span class="try-name grow">{label}</span>
          <span class="muted">{operation(control.strength)}</span>
          <button type="button" class="icon" aria-label={`Remove ${label}`} onClick={remove}>
            ×
          </button>
        </div>
        {below}
      </div>
    )
  if (aim === "strength")
    return (
      <Slider
        label={label}
        value={control.strength}
        reach={Math.max(reach(control), Math.ceil(Math.abs(control.strength)))}
        change={(value) => set((copy) => void (copy.strength = value))}
        remove={remove}
      >
        {below}
      </Slider>
    )
  return (
    <GoalSlider
      label={label}
      aim={aim}
      value={goalValue(control)}
      remove={remove}
      change={(value) => set((copy) => void (copy.goal = goalOf(aim, value, countedOf(control))))}
    >
      {below}
    </GoalSlider>
  )
}

const found = (outcome: Outcome | undefined): number =>
  Math.round(20 * (outcome?.receipt?.appliedStrength ?? outcome?.applied.control?.strength ?? 0)) / 20

/** What a share counts, for a control that names no items: what it was measured to be about, or else the concept that does most. */
function counted(control: Control, known: Known): ReturnType<typeof countedOf> {
  if (hasItems(control)) return { case: undefined }
  const [before, about] = [countedOf(control), aboutOf(control)]
  if (before.case || about.case) return before.case ? before : about
  const [first] = findConcepts(known.concepts, "", 1)
  return first ? { case: "concept", value: first.name } : before
}

function AimChoice({
  label,
  aim,
  goalsLeft,
  choose,
}: {
  label: string
  aim: Aim
  goalsLeft: number
  choose: (aim: Aim) => void
}) {
  return (
    <select
      class="try-aim"
      aria-label={`How ${label} is set`}
      value={aim}
      onChange={(event) => choose(event.currentTarget.value as Aim)}
    >
      {(Object.keys(AIMS) as Aim[]).map((each) => (
        <option key={each} value={each} disabled={each !== "strength" && aim === "strength" && goalsLeft < 1}>
          {AIMS[each]}
        </option>
      ))}
    </select>
  )
}

const GOAL_WORDS: Record<Exclude<Aim, "strength">, string> = {
  at_least: "at least",
  at_most: "at most",
  overlap: "keep at least",
  divergence: "change at most",
}

interface GoalSliderProps {
  label: string
  aim: Exclude<Aim, "strength">
  value: number
  change: (value: number) => void
  remove: () => void
  children: preact.ComponentChildren
}

function GoalSlider({ label, aim, value, change, remove, children }: GoalSliderProps) {
  const id = useId()
  const isBudget = aim === "divergence"
  const text = isBudget ? `${value.toFixed(2)} nats` : percent(value)
  return (
    <div class="slider">
      <div class="slider-head">
        <label for={id}>{label}</label>
        <span class="chip">
          {GOAL_WORDS[aim]} {text}
        </span>
        <button type="button" class="icon" aria-label={`Remove ${label}`} onClick={remove}>
          ×
        </button>
      </div>
      <input
        id={id}
        class="try-goal"
        type="range"
        min={0}
        max={isBudget ? MOST_NATS : 1}
        step={isBudget ? 0.05 : 0.1}
        value={value}
        aria-valuetext={`${GOAL_WORDS[aim]} ${text}`}
        onInput={(event) => change(Number(event.currentTarget.value))}
      />
      {children}
    </div>
  )
}

function Counted({ control, known, change }: { control: Control; known: Known; change: (control: Control) => void }) {
  const of = countedOf(control)
  const name =
    of.case === "concept"
      ? known.concepts.find(({ name }) => name === of.value)?.displayName || of.value
      : of.case === "attribute"
        ? `${of.value.value} (${plain(of.value.name)})`
        : of.case === "items"
          ? plural(of.value.itemIds.length, "item")
          : "nothing yet"
  const put = (next: ReturnType<typeof countedOf>) => {
    const copy = clone(ControlSchema, control)
    const goal = goalOf(aimOf(control), goalValue(control), next)
    if (goal) copy.goal = goal
    change(copy)
  }
  return (
    <>
      <p class="note">
        The share counts <strong>{name}</strong>.
      </p>
      <Search
        label="Count something else"
        find={async (text, signal) => {
          const concepts = findConcepts(known.concepts, text, 4).map((each) => ({
            key: `concept:${each.name}`,
            label: each.displayName || each.name,
            group: "Concepts",
            of: { case: "concept" as const, value: each.name },
          }))
          const { attributes } = await items.listAttributes({ text, values: 4 }, { signal })
          const values = attributes.flatMap(({ name, values }) =>
            values.map(({ value, items }) => ({
              key: `attribute:${name}:${value}`,
              label: `${value} (${plain(name)})`,
              note: plural(items, "item"),
              group: "Attributes",
              of: { case: "attribute" as const, value: attributeRef(name, value) },
            })),
          )
          return [...concepts, ...values]
        }}
        choose={({ of }) => put(of)}
      />
    </>
  )
}

function ItemsOf({
  control,
  label,
  titleOf,
  set,
}: {
  control: Control
  label: string
  titleOf: (id: string) => string
  set: (how: (copy: Control) => void) => void
}) {
  const [open, setOpen] = useState(false)
  const itemIds = control.target.case === "items" ? control.target.value.itemIds : []
  const put = (next: string[]) =>
    set(({ target }) => {
      if (target.case === "items") target.value.itemIds = next
    })
  return (
    <div class="try-items-of">
      <button type="button" class="link" aria-expanded={open} onClick={() => setOpen(!open)}>
        {open ? "Hide its items" : `${plural(itemIds.length, "item")}: change`}
      </button>
      {open && (
        <>
          <ul class="try-titles" aria-label={`Items of ${label}`}>
            {itemIds.map((id) => (
              <li key={id}>
                <span>{titleOf(id)}</span>
                <button
                  type="button"
                  class="icon try-drop"
                  aria-label={`Take ${titleOf(id)} out`}
                  disabled={itemIds.length === 1}
                  onClick={() => put(itemIds.filter((each) => each !== id))}
                >
                  ×
                </button>
              </li>
            ))}
          </ul>
          <Search
            label="Add an item by title"
            find={findItems}
            choose={({ key }) => !itemIds.includes(key) && put([...itemIds, key])}
          />
        </>
      )}
    </div>
  )
}

/** Items by title, for a search field. */
export async function findItems(text: string, signal: AbortSignal) {
  const page = await items.listItems({ text, pageSize: 8 }, { signal })
  return page.items.map(({ itemId, title, attributes }) => ({
    key: itemId,
    label: title,
    note: attributeLine(attributes),
  }))
}

function OutcomeLines({ outcome, stale, aim }: { outcome: Outcome; stale: boolean; aim: Aim }) {
  const { applied, receipt } = outcome
  const said = []
  if (receipt?.shareBefore !== undefined && receipt.shareAfter !== undefined)
    said.push(`Share of the list ${percent(receipt.shareBefore)} → ${percent(receipt.shareAfter)}`)
  if (aim !== "strength" && receipt) said.push(`strength ${signed(receipt.appliedStrength)} found`)
  const missed = receipt?.goal === GoalStatus.NOT_REACHABLE
  return (
    <div class={stale ? "try-outcome try-stale" : "try-outcome"}>
      {said.length > 0 && <p class="note">{said.join(" · ")}</p>}
      {receipt?.note && <p class={missed ? "warning" : "note"}>{sentence(receipt.note)}</p>}
      {applied.warnings.map((warning) => (
        <p key={warning} class="warning">
          {sentence(warning)}
        </p>
      ))}
      {applied.edits.some(({ beyondNatural }) => beyondNatural) && (
        <p class="warning">Beyond the natural range: the model never sees it this strong by itself.</p>
      )}
      {applied.edits.length > 0 && (
        <details>
          <summary>What it came down to: {plural(applied.edits.length, "feature")}</summary>
          <ul class="try-edits">
            {applied.edits.map(({ featureId, label, strength, gain }) => (
              <li key={featureId}>
                <span>{featureName(label, featureId)}</span>
                <span>{gain === 1 ? signed(strength) : `× ${gain.toFixed(2)} ${signed(strength)}`}</span>
              </li>
            ))}
          </ul>
        </details>
      )}
    </div>
  )
}

const SOURCES: Partial<Record<ControlSource, string>> = {
  [ControlSource.SESSION]: "of the session",
  [ControlSource.SCENARIO]: "of the scenario",
  [ControlSource.DISLIKED]: "from what was disliked",
}

/** Controls that act without being the request's: they can be read here, not changed. */
export function OtherControls({ outcomes, concepts }: { outcomes: Outcome[]; concepts: readonly Concept[] }) {
  // Their titles, for the names of item sets.
  useItems(
    outcomes.flatMap(({ applied }) =>
      applied.control?.target.case === "items" ? applied.control.target.value.itemIds : [],
    ),
  )
  if (!outcomes.length) return null
  return (
    <ul class="try-others" aria-label="Controls from elsewhere">
      {outcomes.map(({ applied }, index) => (
        <li key={`${index}:${applied.control ? targetKey(applied.control) : ""}`}>
          <span class="grow">{appliedName(applied, concepts)}</span>
          <span class="muted">{SOURCES[applied.source] ?? "of the server"}</span>
          <span>{signed(applied.control?.strength ?? 0)}</span>
        </li>
      ))}
    </ul>
  )
}
