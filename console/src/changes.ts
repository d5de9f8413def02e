// What people change with sliders: strengths that are added up, beside those that a session keeps already.

import { clone } from "@bufbuild/protobuf"
import { ControlSchema, Operation, type Control } from "./gen/steersman/v1/control_pb"
import { added, targetKey } from "./request"

/** As targetKey, but features of different bundles differ. */
export function controlKey(control: Control): string {
  const { target } = control
  return target.case === "feature" ? `${targetKey(control)}:${target.value.bundleVersion}` : targetKey(control)
}

/** It has a strength that a slider shows. Goals and other operations do not. */
export const hasStrength = (control: Control): boolean => control.operation === Operation.ADD && !control.goal

/** The sum of all strengths of controls on the same thing; 0 where there is none. */
export function strengthOf(controls: Control[], key: string): number {
  return controls
    .filter((control) => hasStrength(control) && controlKey(control) === key)
    .reduce((sum, { strength }) => sum + strength, 0)
}

/** Controls in which the target of `control` has this strength, at the place that it had; at 0, it is left out. */
export function withStrength(controls: Control[], target: Control["target"], strength: number): Control[] {
  // Strengths are single precision: sums of steps would show digits that no one chose.
  const control = added(target, Math.round(1000 * strength) / 1000)
  const key = controlKey(control)
  const isSame = (other: Control) => hasStrength(other) && controlKey(other) === key
  const place = controls.findIndex(isSame)
  const rest = controls.filter((other) => !isSame(other))
  if (control.strength === 0) return rest
  return place < 0 ? [...rest, control] : [...rest.slice(0, place), control, ...rest.slice(place)]
}

/** What a session keeps, and what is added to it, as one set of controls that does the same. */
export function merged(kept: Control[], more: Control[]): Control[] {
  return more.reduce(
    (controls, control) =>
      hasStrength(control)
        ? withStrength(controls, control.target, strengthOf(controls, controlKey(control)) + control.strength)
        : [...controls, clone(ControlSchema, control)],
    kept,
  )
}
