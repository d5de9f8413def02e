// The request as code that can be pasted: curl, grpcurl, and Python.

import { toJson, type JsonValue } from "@bufbuild/protobuf"
import { Operation, type Control, type ShareGoal } from "../../gen/steersman/v1/control_pb"
import {
  RecommendRequestSchema,
  type History,
  type RecommendRequest,
} from "../../gen/steersman/v1/recommendation_service_pb"

const METHOD = "steersman.v1.RecommendationService/Recommend"

/** Floats of the contract have 32 bits: seven digits say all. */
const neat = (value: number): number => Number(Math.fround(value).toPrecision(7))

function neatJson(value: JsonValue): JsonValue {
  if (typeof value === "number") return neat(value)
  if (Array.isArray(value)) return value.map(neatJson)
  if (value && typeof value === "object")
    return Object.fromEntries(Object.entries(value).map(([name, each]) => [name, neatJson(each)]))
  return value
}

const json = (request: RecommendRequest): string =>
  JSON.stringify(neatJson(toJson(RecommendRequestSchema, request)), undefined, 1).replace(/\n\s*/g, " ")

/** For a POSIX shell. */
const quoted = (text: string): string => `'${text.replaceAll("'", `'\\''`)}'`

// The token itself stays out of what is copied and sent around.
const TOKEN = `-H "authorization: Bearer $STEERSMAN_TOKEN"`

export const curl = (request: RecommendRequest, root: URL, signed = false): string =>
  [
    `curl ${quoted(new URL(METHOD, root).href)}`,
    `-H 'content-type: application/json'`,
    ...(signed ? [TOKEN] : []),
    `-d ${quoted(json(request))}`,
  ].join(" \\\n  ")

export const grpcurl = (request: RecommendRequest, address: string, tls: boolean, signed = false): string =>
  [
    `grpcurl ${tls ? "" : "-plaintext "}-d ${quoted(json(request))}`,
    ...(signed ? [TOKEN] : []),
    `${quoted(address)} ${METHOD}`,
  ].join(" \\\n  ")

/** Where Debian keeps the certificates that it trusts. */
const CA = "/etc/ssl/certs/ca-certificates.crt"

export function python(request: RecommendRequest, address: string, tls: boolean, signed = false): string {
  const names = new Set(["Client"])
  const used = (name: string): string => (names.add(name), name)
  const parts = [...historyArguments(request)]
  if (request.controls.length)
    parts.push(
      `controls=[\n${request.controls.map((each) => `            ${control(each, used)},\n`).join("")}        ]`,
    )
  parts.push(`k=${request.k || 10}`)
  const filters = filterArguments(request)
  if (filters.length) parts.push(`filters=${used("Filters")}(${filters.join(", ")})`)
  const composition = compositionArguments(request, used)
  if (composition.length) parts.push(`composition=${used("Composition")}(${composition.join(", ")})`)
  if (request.scenario) parts.push(`scenario=${text(request.scenario)}`)
  if (request.ignoreDislikes) parts.push("ignore_dislikes=True")
  if (request.receipt) parts.push("receipt=True")
  const call = parts.map((part) => `        ${part},\n`).join("")
  const token = signed ? `, token=os.environ["STEERSMAN_TOKEN"]` : ""
  return `${signed ? "import os\n\n" : ""}from steersman_client import ${[...names].sort().join(", ")}

with Client(${text(address)}${tls ? `, tls_ca=${text(CA)}` : ""}${token}) as client:
    answer = client.recommend(
${call}    )
for item in answer.items:
    print(item.title)
`
}

// JSON's strings are Python's, too.
const text = (value: string): string => JSON.stringify(value)
const texts = (values: readonly string[]): string => `[${values.map(text).join(", ")}]`
const tuple = (values: readonly string[]): string => `(${values.map((each) => `${text(each)},`).join(" ")})`

function* historyArguments(request: RecommendRequest): Generator<string> {
  if (request.sessionId) {
    yield `session_id=${text(request.sessionId)}`
    if (request.fallbackHistory) yield* history("fallback_history", request.fallbackHistory)
  } else if (request.history?.itemIds.length) yield* history("history", request.history)
}

function* history(name: string, { itemIds, eventsBefore }: History): Generator<string> {
  yield `${name}=${texts(itemIds)}`
  if (eventsBefore) yield `events_before=${eventsBefore}`
}

const OPERATIONS: Partial<Record<Operation, string>> = {
  [Operation.SET]: "set",
  [Operation.SCALE]: "scale",
  [Operation.ABLATE]: "ablate",
}

function control(control: Control, used: (name: string) => string): string {
  const last = [
    ...(control.strength ? [`strength=${neat(control.strength)}`] : []),
    ...(control.goal ? [`goal=${goal(control, used)}`] : []),
  ]
  const made = (name: string, ...first: string[]) => `${used(name)}(${[...first, ...last].join(", ")})`
  const { target } = control
  switch (target.case) {
    case "concept":
      return made("concept", text(target.value))
    case "attribute":
      return made("tilt", text(target.value.name), text(target.value.value))
    case "items":
      return made("items", texts(target.value.itemIds))
    case "words":
      return made("words", text(target.value))
    case "feature": {
      const operation = OPERATIONS[control.operation]
      if (operation) last.push(`operation="${operation}"`)
      return made("feature", String(target.value.id), `version=${text(target.value.bundleVersion)}`)
    }
    default:
      throw new Error("a control without a target")
  }
}

function goal({ goal }: Control, used: (name: string) => string): string {
  switch (goal?.goal.case) {
    case "leastOverlap":
      return `${used("overlap")}(${neat(goal.goal.value)})`
    case "mostDivergence":
      return `${used("divergence")}(${neat(goal.goal.value)})`
    case "share": {
      const { bound, of } = goal.goal.value
      const name = used(bound.case === "atMost" ? "at_most" : "at_least")
      return `${name}(${[String(neat(bound.value ?? 0)), ...counted(of)].join(", ")})`
    }
    default:
      return "None"
  }
}

function counted(of: ShareGoal["of"]): string[] {
  switch (of.case) {
    case "concept":
      return [`concept=${text(of.value)}`]
    case "attribute":
      return [`attribute=${tuple([of.value.name, of.value.value])}`]
    case "items":
      return [`items=${texts(of.value.itemIds)}`]
    default:
      return []
  }
}

function filterArguments({ filters }: RecommendRequest): string[] {
  if (!filters) return []
  const attributes = filters.attributes.map(({ attribute, anyOf }) => `${text(attribute)}: ${texts(anyOf)}`)
  return [
    ...(filters.includeSeen ? ["include_seen=True"] : []),
    ...(filters.allowItemIds.length ? [`allow_item_ids=${texts(filters.allowItemIds)}`] : []),
    ...(filters.denyItemIds.length ? [`deny_item_ids=${texts(filters.denyItemIds)}`] : []),
    ...(attributes.length ? [`attributes={${attributes.join(", ")}}`] : []),
  ]
}

function compositionArguments({ composition }: RecommendRequest, used: (name: string) => string): string[] {
  if (!composition) return []
  const most = composition.mostPerValue.map(({ attribute, most }) => `${text(attribute)}: ${most}`)
  return [
    ...(composition.diversity ? [`diversity=${neat(composition.diversity)}`] : []),
    ...(most.length ? [`most_per_value={${most.join(", ")}}`] : []),
    ...(composition.pinnedItemIds.length ? [`pinned_item_ids=${texts(composition.pinnedItemIds)}`] : []),
    ...(composition.leastShares.length
      ? [`least_shares=[${leastShares(composition.leastShares, used).join(", ")}]`]
      : []),
  ]
}

const leastShares = (
  shares: NonNullable<RecommendRequest["composition"]>["leastShares"],
  used: (name: string) => string,
): string[] =>
  shares.map(({ of, share }) => {
    const target =
      of.case === "items"
        ? `${used("ItemsTarget")}(${tuple([...of.value.itemIds])})`
        : `${used("AttributeTarget")}(${text(of.value?.name ?? "")}, ${text(of.value?.value ?? "")})`
    return `${used("LeastShare")}(${target}, ${neat(share)})`
  })
