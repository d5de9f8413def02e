// One control of a scenario: a strength, or a goal in its place.

import { clone, create } from "@bufbuild/protobuf"
import { PickAttribute } from "../../components/controls"
import { Slider } from "../../components/slider"
import {
  ControlSchema,
  GoalSchema,
  Operation,
  ShareGoalSchema,
  type Control,
  type Goal,
} from "../../gen/steersman/v1/control_pb"
import { attributeName, targetName, type Names } from "../../target_names"
import { reach } from "../../request"
import { PercentField } from "./chips"
import { goalText } from "./text"

type Way = "strength" | "atLeast" | "atMost" | "leastOverlap" | "mostDivergence" | "set" | "scale" | "ablate"

const WAYS: Record<Way, string> = {
  strength: "by a fixed strength",
  atLeast: "until it is at least a share of the list",
  atMost: "until it is at most a share of the list",
  leastOverlap: "as strong as keeps a share of the list",
  mostDivergence: "as strong as keeps scores close",
  set: "set to a fixed level",
  scale: "multiplied",
  ablate: "switched off",
}

function wayOf({ operation, goal }: Control): Way {
  if (operation === Operation.SET) return "set"
  if (operation === Operation.SCALE) return "scale"
  if (operation === Operation.ABLATE) return "ablate"
  if (!goal) return "strength"
  if (goal.goal.case === "share") return goal.goal.value.bound.case === "atMost" ? "atMost" : "atLeast"
  return goal.goal.case === "leastOverlap" ? "leastOverlap" : "mostDivergence"
}

/** Scores in nats are for those who know them: offered where it is set already. */
const waysFor = (control: Control): Way[] => [
  "strength",
  "atLeast",
  "atMost",
  "leastOverlap",
  ...(wayOf(control) === "mostDivergence" ? (["mostDivergence"] as const) : []),
  ...(control.target.case === "feature" ? (["set", "scale", "ablate"] as const) : []),
]

function withWay(control: Control, way: Way): Control {
  const copy = clone(ControlSchema, control)
  const share = control.goal?.goal.case === "share" ? control.goal.goal.value : undefined
  const goal = (goal: Goal["goal"]): void => {
    copy.goal = create(GoalSchema, { goal })
    copy.operation = Operation.ADD
    copy.strength = 0
  }
  const bound = (bound: "atLeast" | "atMost") =>
    goal({
      case: "share",
      value: create(ShareGoalSchema, {
        of: share?.of ?? { case: undefined },
        bound: { case: bound, value: share?.bound.value ?? 0.3 },
      }),
    })
  copy.goal = undefined
  if (way === "strength") [copy.operation, copy.strength] = [Operation.ADD, 0.5]
  else if (way === "set") [copy.operation, copy.strength] = [Operation.SET, 0.5]
  else if (way === "scale") [copy.operation, copy.strength] = [Operation.SCALE, 1]
  else if (way === "ablate") [copy.operation, copy.strength] = [Operation.ABLATE, 0]
  else if (way === "atLeast" || way === "atMost") bound(way)
  else if (way === "leastOverlap") goal({ case: "leastOverlap", value: 0.7 })
  else goal({ case: "mostDivergence", value: 0.5 })
  return copy
}

export interface ControlRowProps {
  control: Control
  names: Names
  change: (control: Control) => void
  remove: () => void
}

export function ControlRow({ control, names, change, remove }: ControlRowProps) {
  const name = targetName(control, names)
  const way = wayOf(control)
  const set = (write: (copy: Control) => void) => {
    const copy = clone(ControlSchema, control)
    write(copy)
    change(copy)
  }
  const choice = (
    <label class="way">
      <span class="visually-hidden">How {name} is steered</span>
      <select value={way} onChange={(event) => change(withWay(control, event.currentTarget.value as Way))}>
        {waysFor(control).map((one) => (
          <option key={one} value={one}>
            {WAYS[one]}
          </option>
        ))}
      </select>
    </label>
  )
  if (way === "strength")
    return (
      <Slider
        label={name}
        note={KINDS[control.target.case ?? "words"]}
        value={control.strength}
        reach={Math.max(reach(control), Math.abs(control.strength))}
        change={(strength) => set((copy) => (copy.strength = strength))}
        remove={remove}
      >
        {choice}
      </Slider>
    )
  return (
    <div class="slider">
      <div class="slider-head">
        <span class="control-name">{name}</span>
        <button type="button" class="icon" aria-label={`Remove ${name}`} onClick={remove}>
          ×
        </button>
      </div>
      <p class="note">{KINDS[control.target.case ?? "words"]}</p>
      {choice}
      {control.goal ? (
        <GoalFields control={control} goal={control.goal} name={name} names={names} set={set} />
      ) : (
        way !== "ablate" && (
          <NumberField
            label={way === "scale" ? `Factor for ${name}` : `Level of ${name}`}
            value={control.strength}
            least={way === "scale" ? 0 : -10}
            change={(strength) => set((copy) => (copy.strength = strength))}
          />
        )
      )}
    </div>
  )
}

const KINDS = {
  concept: "A concept: what the model has learnt about it.",
  feature: "A feature of the model.",
  attribute: "An attribute of the catalogue: raises or lowers exactly the items that have it.",
  items: "More or fewer items like these.",
  words: "What these words say.",
}

interface GoalFieldsProps {
  control: Control
  goal: Goal
  name: string
  names: Names
  set: (write: (copy: Control) => void) => void
}

function GoalFields({ control, goal: { goal }, name, names, set }: GoalFieldsProps) {
  const write = (next: Goal["goal"]) => set((copy) => (copy.goal = create(GoalSchema, { goal: next })))
  return (
    <div class="goal">
      {goal.case === "share" && (
        <>
          <PercentField
            label={goal.value.bound.case === "atMost" ? "At most" : "At least"}
            value={goal.value.bound.value ?? 0}
            change={(value) =>
              write({
                case: "share",
                value: create(ShareGoalSchema, {
                  of: goal.value.of,
                  bound: { case: goal.value.bound.case ?? "atLeast", value },
                }),
              })
            }
          />
          <CountedItems
            control={control}
            goal={goal.value.of}
            names={names}
            write={(of) => write({ case: "share", value: create(ShareGoalSchema, { of, bound: goal.value.bound }) })}
          />
        </>
      )}
      {goal.case === "leastOverlap" && (
        <PercentField
          label="Keeps at least"
          value={goal.value}
          change={(value) => write({ case: "leastOverlap", value })}
        />
      )}
      {goal.case === "mostDivergence" && (
        <NumberField
          label="Scores within, in nats"
          value={goal.value}
          least={0}
          change={(value) => write({ case: "mostDivergence", value })}
        />
      )}
      <NumberField
        label="Strongest push allowed (0: the server decides)"
        value={control.strength}
        least={-10}
        change={(strength) => set((copy) => (copy.strength = strength))}
      />
      <p class="note">
        {name} is turned so far, for each person anew: {goalText(create(GoalSchema, { goal }), names)}.
      </p>
    </div>
  )
}

type Of = Extract<Goal["goal"], { case: "share" }>["value"]["of"]

/** Features, words and numeric attributes do not say which items count. */
function mustSay({ target }: Control): boolean {
  return target.case === "feature" || target.case === "words" || (target.case === "attribute" && !target.value.value)
}

function CountedItems({
  control,
  goal,
  names,
  write,
}: {
  control: Control
  goal: Of
  names: Names
  write: (of: Of) => void
}) {
  if (goal.case === undefined && !mustSay(control)) return null
  const said =
    goal.case === "attribute"
      ? attributeName(goal.value)
      : goal.case === "concept"
        ? names.concept(goal.value)
        : goal.case === "items"
          ? "some items"
          : ""
  return (
    <div class="counted">
      <p>{said ? `Counted: items with ${said}` : "Say which items count:"}</p>
      <PickAttribute label="Items that count" choose={(value) => write({ case: "attribute", value })} />
    </div>
  )
}

export function NumberField({
  label,
  value,
  least,
  change,
}: {
  label: string
  value: number
  least: number
  change: (value: number) => void
}) {
  return (
    <label class="number-field">
      <span>{label}</span>
      <input
        type="number"
        min={least}
        step={0.05}
        value={Number(value.toFixed(3))}
        onChange={({ currentTarget: { value: text } }) => {
          const number = Number(text)
          if (text !== "" && Number.isFinite(number)) change(Math.max(least, number))
        }}
      />
    </label>
  )
}
