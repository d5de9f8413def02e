// A request as state: what Try and Taste show is one RecommendRequest, which the address holds whole.

import { clone, create, fromBinary, toBinary } from "@bufbuild/protobuf"
import { ControlSchema, Operation, type Control } from "./gen/steersman/v1/control_pb"
import { RecommendRequestSchema, type RecommendRequest } from "./gen/steersman/v1/recommendation_service_pb"

export type Request = RecommendRequest

/** Changes the request as it is when it is called. */
export type Edit = (how: (now: Request) => Request) => void

export const newRequest = (): Request => create(RecommendRequestSchema, { k: 10 })

export function toText(request: Request): string {
  const bytes = toBinary(RecommendRequestSchema, request)
  return btoa(String.fromCharCode(...bytes))
    .replace(/\+/g, "-")
    .replace(/\//g, "_")
    .replace(/=+$/, "")
}

/** Undefined where the text is no request. */
export function fromText(text: string): Request | undefined {
  try {
    const bytes = Uint8Array.from(atob(text.replace(/-/g, "+").replace(/_/g, "/")), (each) => each.charCodeAt(0))
    return fromBinary(RecommendRequestSchema, bytes)
  } catch {
    return undefined
  }
}

/** A copy with a change: requests are never changed in place, so that a changed one is another object. */
export function changed(request: Request, change: (copy: Request) => void): Request {
  const copy = clone(RecommendRequestSchema, request)
  change(copy)
  return copy
}

/** What a control steers, as one word: two controls on the same have the same key. */
export function targetKey(control: Control): string {
  const { target } = control
  switch (target.case) {
    case "feature":
      return `feature:${target.value.id}`
    case "concept":
      return `concept:${target.value}`
    case "attribute":
      return `attribute:${target.value.name}:${target.value.value}`
    case "items":
      return `items:${target.value.itemIds.join(",")}`
    case "words":
      return `words:${target.value}`
    default:
      return "nothing"
  }
}

export const added = (target: Control["target"], strength: number): Control =>
  create(ControlSchema, { target, operation: Operation.ADD, strength })

/** Largest strength of a slider: the natural range of features and concepts, and a factor of 20 for a tilt. */
export const reach = (control: Control): number => (control.target.case === "attribute" ? 3 : 2)
