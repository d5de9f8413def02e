// Controls of a request: what they are, their goals, and how they are added and changed.

import { clone, create } from "@bufbuild/protobuf"
import {
  AttributeRefSchema,
  ControlSchema,
  ControlSource,
  GoalSchema,
  Operation,
  ShareGoalSchema,
  type AppliedControl,
  type Control,
  type Goal,
  type ShareGoal,
} from "../../gen/steersman/v1/control_pb"
import type { ControlReceipt, RecommendResponse } from "../../gen/steersman/v1/recommendation_service_pb"
import { changed, targetKey, type Request } from "../../request"

export type Aim = "strength" | "at_least" | "at_most" | "overlap" | "divergence"

export function aimOf(control: Control): Aim {
  const goal = control.goal?.goal
  switch (goal?.case) {
    case "share":
      return goal.value.bound.case === "atMost" ? "at_most" : "at_least"
    case "leastOverlap":
      return "overlap"
    case "mostDivergence":
      return "divergence"
    default:
      return "strength"
  }
}

/** The number of a goal: a share, or nats. */
export function goalValue(control: Control): number {
  const goal = control.goal?.goal
  if (goal?.case === "share") return goal.value.bound.value ?? 0
  return goal?.case ? goal.value : 0
}

/** Whether it is about a set of items, so that a share needs not be told what it counts. */
export function hasItems({ target }: Control): boolean {
  if (target.case === "attribute") return target.value.value !== ""
  return target.case === "concept" || target.case === "items"
}

export const countedOf = (control: Control): ShareGoal["of"] =>
  control.goal?.goal.case === "share" ? control.goal.goal.value.of : { case: undefined }

export function goalOf(aim: Aim, value: number, counted: ShareGoal["of"]): Goal | undefined {
  switch (aim) {
    case "at_least":
    case "at_most": {
      const bound = { case: aim === "at_least" ? "atLeast" : "atMost", value } as ShareGoal["bound"]
      return create(GoalSchema, { goal: { case: "share", value: create(ShareGoalSchema, { bound, of: counted }) } })
    }
    case "overlap":
      return create(GoalSchema, { goal: { case: "leastOverlap", value } })
    case "divergence":
      return create(GoalSchema, { goal: { case: "mostDivergence", value } })
    case "strength":
      return undefined
  }
}

/** What a goal begins with. */
export const FIRST_GOAL: Record<Aim, number> = {
  strength: 0,
  at_least: 0.4,
  at_most: 0.1,
  overlap: 0.7,
  divergence: 0.25,
}

/** The control with another aim. From a goal back to a strength, the one that was found for it is kept. */
export function withAim(control: Control, aim: Aim, counted: ShareGoal["of"], found: number): Control {
  const copy = clone(ControlSchema, control)
  const goal = goalOf(aim, FIRST_GOAL[aim], counted)
  if (goal) {
    copy.goal = goal
    // Both the direction and the bound are the server's, except for budgets: they keep the direction that was chosen.
    copy.strength = aim === "overlap" || aim === "divergence" ? 2 * Math.sign(control.strength || 1) : 0
  } else {
    delete copy.goal
    copy.strength = found
  }
  return copy
}

export const attributeRef = (name: string, value: string) => create(AttributeRefSchema, { name, value })

export const withControl = (request: Request, index: number, control: Control): Request =>
  changed(request, (copy) => void (copy.controls[index] = control))

export const withoutControl = (request: Request, index: number): Request =>
  changed(request, (copy) => void copy.controls.splice(index, 1))

/** The request with a control: added to one on the same target, if both are strengths. */
export function withMore(request: Request, control: Control): Request {
  return changed(request, ({ controls }) => {
    const same = controls.find(
      (each) =>
        targetKey(each) === targetKey(control) &&
        each.operation === Operation.ADD &&
        control.operation === Operation.ADD &&
        !each.goal &&
        !control.goal,
    )
    if (same) same.strength += control.strength
    else controls.push(clone(ControlSchema, control))
  })
}

/** What became of a control of the request. */
export interface Outcome {
  applied: AppliedControl
  receipt?: ControlReceipt
}

/** Of the request's controls in their order, and of those that came from elsewhere. */
export function outcomes(answer: RecommendResponse): { own: Outcome[]; others: Outcome[] } {
  const all = answer.appliedControls.map((applied, index): Outcome => {
    const receipt = answer.receipt?.controls[index]
    return receipt ? { applied, receipt } : { applied }
  })
  const isOwn = ({ applied }: Outcome) => applied.source === ControlSource.REQUEST
  return { own: all.filter(isOwn), others: all.filter((each) => !isOwn(each)) }
}
